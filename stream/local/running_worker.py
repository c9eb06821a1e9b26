"""A worker as its parent sees it: its process, what it says, and when it is started again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from stream.local.dealing import Worker
from stream.local.worker_client import WorkerClient
from stream.worker_metrics import WorkerMetrics

__all__ = ["COMMAND", "RunningWorker"]

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
# A worker that ran for this long did not fail because of its start.
_HEALTHY_SECONDS = 120.0
_CONFIG_STATUS = 2
COMMAND = (sys.executable, "-m", "stream.local.worker_process")


class RunningWorker:
    """Starts a worker, listens to it, and starts it again if it ends by itself.

    One thread calls `start`, `supervise`, `stop` and `wait`; others may read the attributes.

    Args:
        command: starts the process; the number of its pipe for messages is appended.

    Attributes:
        client: to its HTTP interface; None while it starts, and if it has none.
        health: its last report; None while it does not answer.
        has_ended: whether all its cameras have ended.
        cameras: number of its cameras; None until it says so.
        summary: of its run, once it has stopped.
        was_up: whether it has started at least once.
        is_unusable: whether it refused its configuration at its first start.
    """

    def __init__(
        self, worker: Worker, metrics: WorkerMetrics, command: Sequence[str] = COMMAND
    ) -> None:
        self.worker = worker
        self.client: WorkerClient | None = None
        self.health: dict[str, Any] | None = None
        self.has_ended = False
        self.cameras: int | None = None
        self.summary: dict[str, Any] | None = None
        self.was_up = False
        self.is_unusable = False
        self.restarts = 0
        self._command = command
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._is_up = False
        self._listener: threading.Thread | None = None
        self._started_monotonic = 0.0
        self._start_at = 0.0
        self._failures = 0
        metrics.restarts.labels(worker.name)
        metrics.up.labels(worker.name).set(0)

    @property
    def title(self) -> str:
        """Its name and device, for messages."""
        return f"worker {self.worker.name} ({self.worker.device})"

    @property
    def pid(self) -> int | None:
        """The number of its process; None if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def problem(self) -> str | None:
        """Why it does not work; None if it does."""
        if self._process is None:
            return "ended; it is started again" if self.was_up else "not started"
        return None if self.was_up and self._is_up else "starting"

    def start(self) -> None:
        """Start the process; it reads its configuration from its standard input."""
        ours, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*self._command, str(theirs)],
                stdin=subprocess.PIPE,
                env=os.environ | self.worker.environment,
                pass_fds=(theirs,),
                process_group=0,  # Ctrl-C in a terminal reaches it through its parent
            )
        finally:
            os.close(theirs)
        self._started_monotonic = time.monotonic()
        self._is_up = False
        self.has_ended = False
        assert self._process.stdin is not None
        try:
            pickle.dump((self.worker.name, self.worker.config), self._process.stdin)
            self._process.stdin.flush()  # and it stays open: its end says that this process is gone
        except BrokenPipeError:
            _log.error("%s ended while it was started", self.title)
        self._listener = threading.Thread(
            target=self._listen, args=(ours,), name=f"worker-{self.worker.name}", daemon=True
        )
        self._listener.start()

    def supervise(self) -> None:
        """Notice that the process has ended, and start it again after a pause."""
        if self._process is None:
            if time.monotonic() >= self._start_at and not self.is_unusable:
                self.restarts += 1
                self._metrics.restarts.labels(self.worker.name).inc()
                self.start()
            return
        if (status := self._process.poll()) is None:
            return
        self._forget_process()
        if status == _CONFIG_STATUS and not self.was_up:
            self.is_unusable = True
            return
        if time.monotonic() - self._started_monotonic > _HEALTHY_SECONDS:
            self._failures = 0
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _MAX_PAUSE_SECONDS)
        self._failures += 1
        self._start_at = time.monotonic() + pause
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        _log.error("%s %s; it is started again in %g s", self.title, how, pause)

    def look(self) -> None:
        """Ask for its health; called regularly by one other thread."""
        client = self.client
        self.health = None if client is None else client.health()

    def stop(self) -> None:
        """Ask the process to stop in an orderly way."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the process and its last message; return its status, None if it does not run.

        A process that does not end in time is killed.
        """
        if self._process is None:
            return None
        try:
            status = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            _log.error("%s does not stop; it is killed", self.title)
            self._process.kill()
            status = self._process.wait()
        self._forget_process()
        return status

    def _forget_process(self) -> None:
        assert self._process is not None
        assert self._listener is not None
        self._listener.join()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it never read its configuration
                self._process.stdin.close()
        self._process = None
        self.client = self.health = None
        self._metrics.up.labels(self.worker.name).set(0)

    def _listen(self, pipe: int) -> None:
        """Take the messages of one process until it ends."""
        with os.fdopen(pipe, encoding="utf-8") as messages:
            for line in messages:
                try:
                    self._take(json.loads(line))
                except ValueError:  # it was killed in the middle of a line
                    continue

    def _take(self, message: dict[str, Any]) -> None:
        if message["kind"] == "started":
            if message["http"] is not None:
                self.client = WorkerClient(self.worker.name, message["http"], self.worker.token)
            self._is_up = self.was_up = True
            self._metrics.up.labels(self.worker.name).set(1)
        elif message["kind"] == "ended":
            self.has_ended, self.cameras = message["ended"], message["cameras"]
        elif message["kind"] == "summary":
            self.summary = message["summary"]
