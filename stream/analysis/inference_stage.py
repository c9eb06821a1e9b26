"""The inference thread: batches of clips through the network, results to whoever makes events."""

from __future__ import annotations

import time
from typing import Protocol

from torch import Tensor

from model.device_streams import DeviceStream
from model.inference import BatchRun
from stream.analysis.backlog import Backlog
from stream.batch_times import BatchTimes
from stream.metrics import Metrics
from stream.stage import Stage
from stream.types import CameraOpened, ClipBatch, ClipResults, StreamBreak

__all__ = ["InferenceStage", "Network", "ResultConsumer"]

_LOOK_SECONDS = 0.2


class Network(Protocol):
    """What the stage needs of a recogniser; its `stream` is the one the network runs on."""

    stream: DeviceStream

    def probabilities(self, clips_BCTHW: Tensor) -> Tensor:
        """Class probabilities `B K` of normalised clips."""

    def plan(self, clips: int) -> BatchRun:
        """Return how a batch of this many clips runs."""


class ResultConsumer(Protocol):
    """Who takes results, in the order of the stream and in the inference thread."""

    def open(self, opened: CameraOpened) -> None:
        """Take note that a camera begins."""

    def push(self, results: ClipResults) -> None:
        """Take the results of a batch."""

    def interrupt(self, broken: StreamBreak) -> None:
        """Take note that a camera's time line is interrupted."""

    def tick(self) -> None:
        """Do what is due, several times a second."""

    def finish(self) -> None:
        """Take note that nothing more comes."""


class InferenceStage(Stage):
    """Runs the network on every batch of the backlog until it is closed and empty.

    Attributes:
        consumer: who takes the results; it may be replaced before the stage starts.
    """

    def __init__(
        self, network: Network, *, backlog: Backlog, consumer: ResultConsumer, metrics: Metrics
    ) -> None:
        super().__init__("inference")
        self._network = network
        self._backlog = backlog
        self.consumer = consumer
        self._metrics = metrics

    def run(self) -> None:
        """Work until the backlog is closed and empty, or `stop` was called; then end all events."""
        with self._network.stream:
            self._work()

    def _work(self) -> None:
        while not self.stopping.is_set() and not self._backlog.is_drained:
            self.beat()
            with self.waiting():
                work = self._backlog.take(_LOOK_SECONDS)
            if isinstance(work, ClipBatch):
                self._infer(work)
            elif isinstance(work, CameraOpened):
                self.consumer.open(work)
            elif isinstance(work, StreamBreak):
                self.consumer.interrupt(work)
            self.consumer.tick()
        self.consumer.finish()

    def _infer(self, batch: ClipBatch) -> None:
        started_at = time.monotonic()
        self._count(len(batch.refs))
        self._metrics.batch_clips.observe(len(batch.refs))
        with self._metrics.stage.labels("infer").time():
            # The clips were gathered on the analysis thread's stream.
            self._network.stream.wait(batch.ready)
            self._network.stream.keep(batch.clips_BCTHW)
            probabilities_BK = self._network.probabilities(batch.clips_BCTHW).tolist()
        ended_at = time.monotonic()
        self._backlog.note_done(batch, ended_at - started_at)
        times = BatchTimes(batch.gathered_monotonic, started_at, ended_at)
        self.consumer.push(ClipResults(batch.clips_BCTHW, batch.refs, probabilities_BK, times))

    def _count(self, clips: int) -> None:
        """Count how the batch runs, and the clips that are computed for nothing."""
        run = self._network.plan(clips)
        self._metrics.network_batches.labels(run.engine, str(run.size)).inc()
        self._metrics.padded_clips.inc(run.size - clips)
