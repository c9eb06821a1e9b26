"""Watches how much room the disks of a run have left, for the metrics.

A thread asks every few seconds, because a disk that does not respond would otherwise hold up the
scrape. If a disk does not answer, its gauges disappear, and the pipeline runs on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from stream.metrics import Metrics
from stream.stage import Stage

__all__ = ["DiskWatch"]

_PERIOD_SECONDS = 5.0
# A disk that does not answer for this long hangs, and its last reading is no longer shown.
_STALE_SECONDS = 20.0
_CLOSE_SECONDS = 2.0


class DiskWatch(Stage):
    """Reads the room on the disk of each folder every few seconds, from `start` until `close`.

    Args:
        folders: by the name that they have in the label `folder`. A folder that cannot be examined
            has no gauges.
        metrics: gets the gauges.
        examine: returns free and total bytes of a folder's disk; raises OSError.
        period_seconds: between two readings.
        stale_seconds: age from which a reading is not shown any more.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        metrics: Metrics,
        *,
        examine: Callable[[Path], tuple[int, int]] | None = None,
        period_seconds: float = _PERIOD_SECONDS,
        stale_seconds: float = _STALE_SECONDS,
    ) -> None:
        super().__init__("disks")
        self._folders = folders
        self._metrics = metrics
        self._examine = examine or _free_and_size_bytes
        self._period_seconds = period_seconds
        self._stale_seconds = stale_seconds
        self._latest: dict[str, tuple[int, int]] = {}

    @classmethod
    def on(
        cls, folders: Mapping[str, Path], metrics: Metrics, stack: contextlib.ExitStack
    ) -> DiskWatch:
        """Watch the disks of these folders until `stack` is closed, and show what is read."""
        watch = cls(folders, metrics)
        metrics.before_scrape.append(watch.show)
        stack.callback(watch.close)
        watch.start()
        return watch

    def run(self) -> None:
        """Read until `stopping` is set."""
        while not self.stopping.is_set():
            latest = {}
            for name, folder in self._folders.items():
                with contextlib.suppress(OSError):
                    latest[name] = self._examine(folder)
            self._latest = latest
            self.beat()
            self.stopping.wait(self._period_seconds)

    def show(self) -> None:
        """Set the gauges to the latest reading; without one that is fresh, they disappear."""
        free, size = self._metrics.disk_free, self._metrics.disk_size
        free.clear()
        size.clear()
        if not self.is_alive or self.silent_seconds > self._stale_seconds:
            return
        for name, (free_bytes, size_bytes) in self._latest.items():
            free.labels(name).set(free_bytes)
            size.labels(name).set(size_bytes)

    def close(self) -> None:
        """End the thread. If a disk hangs, the thread is left to itself."""
        self.stop()
        self.join(_CLOSE_SECONDS)


def _free_and_size_bytes(folder: Path) -> tuple[int, int]:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
