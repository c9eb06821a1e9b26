"""`python -m stream run --devices`: one worker per device, behind one HTTP address."""

from __future__ import annotations

import concurrent.futures
import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from configs import ConfigError
from stream.config import StreamConfig
from stream.events.outbox_lock import refuse_use
from stream.local.dealing import Worker, deal
from stream.local.merged_metrics import merge_metrics
from stream.local.merged_report import merged_report, problem_of
from stream.local.moves import move_state
from stream.local.running_worker import COMMAND, RunningWorker
from stream.local.worker_cameras import WorkerCameras
from stream.metrics import Metrics
from stream.serve.server import HttpServer
from stream.sinks.config import longest_drain
from stream.stage import close_quietly

__all__ = ["LocalWorkers"]

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_LOOK_SECONDS = 1.0
# A worker that has not stopped this long after its events were to be sent is killed.
_STOP_SECONDS = 90.0
# A parent that does not move for this long hangs.
_HANGS_SECONDS = 60.0
_OWN_METRICS = ["cidc_worker_up", "cidc_worker_restarts", "cidc_worker_restarts_total"]


class LocalWorkers:
    """The workers of one machine. Entering it serves HTTP; `run` starts the workers.

    Args:
        config: of all; the cameras are dealt by their ids.
        devices: one for each worker.
        command: starts a worker process; see `RunningWorker`.

    Attributes:
        checks: the three health checks; each returns None or what is wrong.
        draining: set once the workers were asked to stop.

    Raises:
        ConfigError: a device or the HTTP address cannot be used, or no worker has a camera.
        OutboxError: another process uses the outbox of a worker.
    """

    def __init__(
        self, config: StreamConfig, devices: Sequence[str], *, command: Sequence[str] = COMMAND
    ) -> None:
        self._config = config
        self._metrics = Metrics()
        dealt = deal(config, devices)
        for worker in dealt:
            refuse_use(worker.config.outbox.path)
        self.workers = [
            RunningWorker(worker, self._metrics.worker, command)
            for worker in dealt
            if _has_work(worker)
        ]
        if not self.workers:
            raise ConfigError("cameras: there are none, and without http.enabled none can be added")
        move_state(dealt, config.outbox.path, config.http.changes)
        self._over = threading.Event()
        self.draining = threading.Event()
        self.checks = {
            "startup": self._not_started,
            "ready": self._not_ready,
            "live": self._not_alive,
        }
        self._moved_monotonic = time.monotonic()
        self._http = self._open_http()

    def __enter__(self) -> LocalWorkers:
        if self._http is not None:
            self._http.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._http is not None:
            close_quietly(self._http.close)

    @property
    def address(self) -> str | None:
        """The HTTP address; None if HTTP is disabled."""
        return None if self._http is None else self._http.address

    def run(
        self, stop: threading.Event, *, duration_seconds: float | None = None
    ) -> dict[str, Any]:
        """Run the workers until all cameras have ended, `stop` is set or the time is over.

        Returns:
            The summary of each worker, how often it was restarted, and whether it failed.

        Raises:
            ConfigError: a worker cannot use its configuration; its own message says why.
        """
        started_at = time.monotonic()
        statuses: dict[str, int | None] = {}
        threading.Thread(target=self._look, name="workers", daemon=True).start()
        try:
            for running in self.workers:
                running.start()
                _log.info("%s has started as process %s", running.title, running.pid)
            while not stop.is_set() and not self._have_ended():
                self._moved_monotonic = time.monotonic()
                if (
                    duration_seconds is not None
                    and time.monotonic() - started_at >= duration_seconds
                ):
                    break
                for running in self.workers:
                    running.supervise()
                self._refuse_unusable()
                stop.wait(_TICK_SECONDS)
        finally:
            statuses = self._stop()
        return {
            "duration_seconds": round(time.monotonic() - started_at, 3),
            "http": self.address,
            "workers": {each.worker.name: each.summary for each in self.workers},
            "restarts": {each.worker.name: each.restarts for each in self.workers},
            # One that was stopped before it had read its configuration knows no other end.
            "failed": [
                name for name, status in statuses.items() if status not in (0, -signal.SIGTERM)
            ],
        }

    def _stop(self) -> dict[str, int | None]:
        """Stop all workers at once and wait for them; return their statuses."""
        self.draining.set()
        for running in self.workers:
            running.stop()
        deadline = time.monotonic() + longest_drain(self._config) + _STOP_SECONDS
        statuses = {
            running.worker.name: running.wait(max(0.0, deadline - time.monotonic()))
            for running in self.workers
        }
        self._over.set()
        return statuses

    def _have_ended(self) -> bool:
        """Whether no worker will deliver anything more; those without cameras wait for some."""
        known = all(running.cameras is not None for running in self.workers)
        at_work = [each for each in self.workers if each.cameras]
        return known and bool(at_work) and all(each.has_ended for each in at_work)

    def _refuse_unusable(self) -> None:
        for running in self.workers:
            if running.is_unusable:
                raise ConfigError(
                    f"{running.title} cannot be used as it is configured; its own message above"
                    " says why"
                )

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for running in self.workers:
                running.look()

    # HTTP -----------------------------------------------------------------------------------------

    def _open_http(self) -> HttpServer | None:
        config = self._config
        if not config.http.enabled:
            return None
        cameras = WorkerCameras(lambda: [running.client for running in self.workers])
        folders = [each.worker.config.snapshots.path for each in self.workers]

        def report() -> Mapping[str, Any]:
            found = {name: check() for name, check in self.checks.items()}
            reports = {each.worker.name: each.health for each in self.workers}
            problems = {each.worker.name: problem_of(each) for each in self.workers}
            return merged_report(found, reports, problems)

        return HttpServer(
            config.http,
            metrics=self._exposition,
            openmetrics=lambda: self._exposition(openmetrics=True),
            cameras=lambda: None if self._not_started() else cameras,
            report=report,
            checks=self.checks,
            snapshots=folders if config.snapshots.enabled else (),
        )

    def _exposition(self, *, openmetrics: bool = False) -> bytes:
        with concurrent.futures.ThreadPoolExecutor(len(self.workers)) as pool:
            asked = {
                each.worker.name: pool.submit(client.metrics, openmetrics=openmetrics)
                for each in self.workers
                if (client := each.client) is not None
            }
            texts = {name: future.result() for name, future in asked.items()}
        registry = self._metrics.registry.restricted_registry(_OWN_METRICS)
        generate = openmetrics_text if openmetrics else generate_latest
        texts = {"": generate(registry).decode(), **texts}
        return merge_metrics(texts, openmetrics=openmetrics).encode()

    def _not_started(self) -> str | None:
        waiting = [each.title for each in self.workers if not each.was_up]
        return f"{waiting[0]} is loading and warming up the network" if waiting else None

    def _not_ready(self) -> str | None:
        for running in self.workers:
            if (problem := problem_of(running)) is not None:
                return f"{running.title}: {problem}"
        return None

    def _not_alive(self) -> str | None:
        """Whether workers are supervised; one that dies is not a reason to restart them all."""
        silent = time.monotonic() - self._moved_monotonic
        if silent > _HANGS_SECONDS and not self.draining.is_set():
            return f"the workers have not been supervised for {silent:.0f} s"
        return None


def _has_work(worker: Worker) -> bool:
    return bool(worker.config.cameras) or worker.config.http.enabled
