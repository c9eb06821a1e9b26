"""What is used of PyTorch's private parts still works as it is used."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from train.data.dataloader_workers import running_workers, stop_workers


def test_workers_are_found_and_stopped() -> None:
    loader = DataLoader(
        TensorDataset(torch.arange(6)),
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    assert running_workers(loader) == []
    assert len(list(loader)) == 6
    workers = running_workers(loader)
    assert len(workers) == 2
    assert all(worker.is_alive() for worker in workers)
    next(iter(loader))
    assert running_workers(loader) == workers  # they live on between passes
    stop_workers(loader)
    for worker in workers:
        worker.join(timeout=10)
        assert worker.exitcode is not None
    assert running_workers(loader) == []
    stop_workers(loader)
