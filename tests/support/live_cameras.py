"""A camera whose frames, breaks and states are recorded instead of analysed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from stream.cameras.config import CameraConfig
from stream.cameras.supervisor import Supervisor
from stream.cameras.worker_threads import WorkerThreads
from stream.ingest.camera_worker import CameraWorker
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decode_stage import DecodeStage
from stream.ingest.decoder_pool import DecoderPool
from stream.metrics import Metrics
from stream.types import CameraOpened, CameraState, SampledFrame, StreamBreak, StreamItem
from tests.support.waiting import until

QUICK = SourceConfig(
    open_timeout_seconds=3.0,
    read_timeout_seconds=1.0,
    backoff_initial_seconds=0.05,
    backoff_max_seconds=0.1,
)


class Seen:
    """The frames, breaks and states of one camera; while `slow` is set, none is taken."""

    def __init__(
        self,
        url: str,
        config: SourceConfig = QUICK,
        *,
        decoding: DecodeStage | None = None,
        pool: DecoderPool | None = None,
        **camera: object,
    ) -> None:
        self.items: list[SampledFrame | StreamBreak] = []
        self.opened: list[CameraOpened] = []
        self.metrics = Metrics()
        self.states: list[tuple[CameraState, str]] = []
        self.slow = threading.Event()
        self.supervisor = Supervisor(
            config,
            self.metrics,
            self._run,
            self.items.append,
            lambda state, detail: self.states.append((state, detail)),
        )
        self._config = config
        self._decoding = decoding
        self._pool = pool
        self.status = self.supervisor.add(
            CameraConfig.model_validate({"id": "a", "url": url} | camera)
        )
        self.supervisor.start("a")

    @property
    def story(self) -> str:
        """The states so far, with their details."""
        return "; ".join(f"{state} {detail}" for state, detail in self.states)

    def _run(self, threads: WorkerThreads) -> None:
        CameraWorker(
            threads,
            source=self._config,
            clip=ClipConfig(),
            metrics=self.metrics,
            short_side=160,
            outlet=self,
            decoding=self._decoding,
            pool=self._pool,
        ).run()

    def put(
        self,
        item: StreamItem,
        stop: threading.Event | None = None,
        on_blocked: Callable[[bool], None] = lambda blocked: None,
    ) -> bool:
        """Record an item, as an inbox would take it."""
        if stop is not None and stop.is_set():
            return False
        if isinstance(item, CameraOpened):
            self.opened.append(item)
            return True
        self.items.append(item)
        until(lambda: not self.slow.is_set(), 60)
        return True

    @property
    def frames(self) -> list[SampledFrame]:
        return [item for item in self.items if isinstance(item, SampledFrame)]

    @property
    def breaks(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, StreamBreak)]


@contextlib.contextmanager
def seen(
    url: str,
    config: SourceConfig = QUICK,
    *,
    decoding: DecodeStage | None = None,
    pool: DecoderPool | None = None,
    **camera: object,
) -> Iterator[Seen]:
    """Run a camera for as long as the block lasts."""
    watched = Seen(url, config, decoding=decoding, pool=pool, **camera)
    try:
        yield watched
    finally:
        watched.supervisor.stop()
