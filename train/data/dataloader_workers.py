"""The worker processes of a PyTorch DataLoader: the only place that uses its private parts.

A DataLoader with persistent workers stops them when its iterator is collected as garbage, and then
waits for each. A run must be able to end them at a moment of its own, also when one hangs in a
video library; PyTorch has no public way to do that.
"""

from __future__ import annotations

import multiprocessing.process
from typing import Any

from torch.utils.data import DataLoader

__all__ = ["running_workers", "stop_workers"]


def running_workers(loader: DataLoader[Any]) -> list[multiprocessing.process.BaseProcess]:
    """Return the worker processes; none before the first pass and after `stop_workers`."""
    iterator = loader._iterator
    return [] if iterator is None else list(iterator._workers)  # type: ignore[attr-defined]


def stop_workers(loader: DataLoader[Any]) -> None:
    """End the worker processes, by force where they do not end by themselves."""
    workers = running_workers(loader)
    iterator = loader._iterator
    loader._iterator = None
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
    for worker in workers:
        if worker.is_alive():
            worker.kill()
