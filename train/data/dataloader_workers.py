"""Lists and stops the worker processes of a PyTorch DataLoader.

A DataLoader stops its persistent workers only when its iterator is garbage-collected, and then
waits for each worker. A run must be able to stop the workers at any time, even if one hangs in a
video library. PyTorch has no public function for this, so this module, and no other, uses private
attributes of the DataLoader.
"""

from __future__ import annotations

import multiprocessing.process
from typing import Any

from torch.utils.data import DataLoader

__all__ = ["running_workers", "stop_workers"]


def running_workers(loader: DataLoader[Any]) -> list[multiprocessing.process.BaseProcess]:
    """Return the worker processes: an empty list before the first pass and after `stop_workers`."""
    iterator = loader._iterator
    return [] if iterator is None else list(iterator._workers)  # type: ignore[attr-defined]


def stop_workers(loader: DataLoader[Any]) -> None:
    """Stop the worker processes; kill those that do not end by themselves."""
    workers = running_workers(loader)
    iterator = loader._iterator
    loader._iterator = None
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
    for worker in workers:
        if worker.is_alive():
            worker.kill()
