"""The three worker processes of `benchmarks.fleet`, and the rounds that they go through."""

from __future__ import annotations

import collections
import contextlib
import functools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fleet_times import Change, Interval, change, parse_times, watched_by

__all__ = ["Fleet"]

_WORKERS = "abc"
_END_SECONDS = 90.0
_POLL_SECONDS = 0.25
_QUIET_SECONDS = 2.0


class _Process:
    """One worker: a process at a time, its outbox, and when its cameras ran."""

    def __init__(self, name: str, folder: Path, tree: Mapping[str, Any], fps: float) -> None:
        self.name = name
        self.outbox = folder / f"{name}.db"
        self._folder = folder
        self._fps = fps
        cameras_from = {**tree["cameras_from"], "worker": name}
        config = {**tree, "cameras_from": cameras_from, "outbox": {"path": str(self.outbox)}}
        self._config = folder / f"{name}.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._runs: list[tuple[Path, float | None]] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a process."""
        times = self._folder / f"{self.name}-{len(self._runs)}.times"
        times.touch()
        self._runs.append((times, None))
        module = [sys.executable, "-m", "benchmarks.fleet_worker"]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*module, str(self._config), str(times), str(self._fps)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the process, and wait until it has ended."""
        assert self._process is not None
        self._process.send_signal(number)
        killed = time.monotonic()
        self._process.wait(_END_SECONDS)
        times, _ = self._runs[-1]
        self._runs[-1] = (times, killed if number == signal.SIGKILL else time.monotonic())

    @property
    def is_alive(self) -> bool:
        """Whether a process runs."""
        return self._process is not None and self._process.poll() is None

    def intervals(self) -> list[Interval]:
        """Return when cameras ran here."""
        return [
            each
            for times, ended in self._runs
            for each in parse_times(self.name, times.read_text(), ended)
        ]

    def last_lines(self) -> str:
        """Return the end of the log."""
        lines = (self._folder / f"{self.name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"{self.name}: {line}" for line in lines[-8:])


class Fleet:
    """Three workers that share cameras.

    Args:
        folder: for configurations, outboxes, logs and times.
        tree: the configuration of all workers, without names and outboxes.
        ids: of the cameras in the topic.
        fps: frames per second that each camera delivers.
        limit_seconds: longest wait for the workers to share the cameras.
    """

    def __init__(
        self,
        folder: Path,
        tree: Mapping[str, Any],
        ids: Sequence[str],
        *,
        fps: float,
        limit_seconds: float,
    ) -> None:
        self.workers = [_Process(name, folder, tree, fps) for name in _WORKERS]
        self._ids = ids
        self._limit_seconds = limit_seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the workers; at the end nothing of them is left."""
        try:
            for worker in self.workers:
                worker.start()
            yield
        finally:
            for worker in self.workers:
                if worker.is_alive:
                    worker.end(signal.SIGKILL)

    def play(self, rounds: int) -> dict[str, list[Change]]:
        """Kill, join, leave and join in turn; end all workers in an orderly way."""
        self._wait_until_settled()
        changes: dict[str, list[Change]] = {"kill": [], "join": [], "leave": []}
        for number in range(rounds):
            worker = self.workers[number % len(self.workers)]
            other = self.workers[(number + 1) % len(self.workers)]
            changes["kill"].append(self._change(functools.partial(worker.end, signal.SIGKILL)))
            changes["join"].append(self._change(worker.start))
            changes["leave"].append(self._change(functools.partial(other.end, signal.SIGTERM)))
            changes["join"].append(self._change(other.start))
        for worker in self.workers:
            worker.end(signal.SIGTERM)
        return changes

    def _change(self, step: Callable[[], None]) -> Change:
        started_at = time.monotonic()
        step()
        settled_at = self._wait_until_settled()
        return change(self._intervals(), self._ids, started_at, settled_at)

    def _wait_until_settled(self) -> float:
        """Wait until the cameras have been shared for a moment; return when that moment began."""
        deadline = time.monotonic() + self._limit_seconds
        since: float | None = None
        while since is None or time.monotonic() - since < _QUIET_SECONDS:
            now = time.monotonic()
            if now > deadline:
                logs = "\n".join(worker.last_lines() for worker in self.workers)
                raise TimeoutError(
                    f"not shared within {self._limit_seconds:g} s: {self._state()}\n{logs}"
                )
            since = (since or now) if self._is_shared(now) else None
            time.sleep(_POLL_SECONDS)
        return since

    def _is_shared(self, moment: float) -> bool:
        """Whether each camera runs once, and each worker has at least half its part."""
        watched = watched_by(self._intervals(), moment)
        if len(watched) < len(self._ids) or any(len(each) > 1 for each in watched.values()):
            return False
        alive = [worker.name for worker in self.workers if worker.is_alive]
        counts = collections.Counter(name for [name] in watched.values())
        return all(counts[name] >= len(self._ids) / len(alive) / 2 for name in alive)

    def _intervals(self) -> list[Interval]:
        return [each for worker in self.workers for each in worker.intervals()]

    def _state(self) -> str:
        watched = watched_by(self._intervals(), time.monotonic())
        counts = collections.Counter(name for names in watched.values() for name in names)
        return f"{len(watched)} of {len(self._ids)} cameras run, by worker {dict(counts)}"
