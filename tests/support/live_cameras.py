"""A camera whose frames, breaks and states are recorded instead of analysed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from stream.cameras.config import CameraConfig
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Fleet, Worker
from stream.ingest.camera_worker import CameraReader
from stream.ingest.config import ClipConfig, SourceConfig
from stream.metrics import Metrics
from stream.types import CameraState, SampledFrame, StreamBreak
from tests.support.waiting import until

QUICK = SourceConfig(
    open_timeout_seconds=3.0,
    read_timeout_seconds=1.0,
    backoff_first_seconds=0.05,
    backoff_most_seconds=0.1,
)


class Seen:
    """The frames, breaks and states of one camera; while `slow` is set, none is taken."""

    def __init__(self, url: str, config: SourceConfig = QUICK, **camera: object) -> None:
        self.items: list[SampledFrame | StreamBreak] = []
        self.metrics = Metrics()
        self.states: list[tuple[CameraState, str]] = []
        self.slow = threading.Event()
        self.fleet = Fleet(config, self.metrics, self._run, self.items.append)
        self.status = self.fleet.add(CameraConfig.model_validate({"id": "a", "url": url} | camera))
        self._config = config
        self.fleet.start("a")

    def _run(self, status: CameraStatus, worker: Worker) -> None:
        show = status._show
        status._show = lambda: (show(), self.states.append((status.state, status.detail)))[0]  # type: ignore[method-assign,func-returns-value]
        CameraReader(
            status,
            worker,
            source=self._config,
            clip=ClipConfig(),
            metrics=self.metrics,
            short_side=160,
            hand_over=self._take,
        ).run()

    def _take(
        self, item: SampledFrame | StreamBreak, _status: CameraStatus, _worker: Worker
    ) -> None:
        self.items.append(item)
        until(lambda: not self.slow.is_set(), 60)

    @property
    def frames(self) -> list[SampledFrame]:
        return [item for item in self.items if isinstance(item, SampledFrame)]

    @property
    def breaks(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, StreamBreak)]


@contextlib.contextmanager
def seen(url: str, config: SourceConfig = QUICK, **camera: object) -> Iterator[Seen]:
    """Run a camera for as long as the block lasts."""
    watched = Seen(url, config, **camera)
    try:
        yield watched
    finally:
        watched.fleet.stop()
