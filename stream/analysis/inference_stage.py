"""The inference thread: batches of clips to events for the writer. It alone touches the state
machines.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from configs import DataError
from model.checkpoints.weights import ModelSpec
from stream.analysis.clip_stage import Clips
from stream.analysis.config import BatchConfig
from stream.analysis.inbox import FOR_GOOD
from stream.analysis.recogniser import Recogniser
from stream.cameras.config import CameraConfig
from stream.events.config import EventConfig
from stream.events.detector import EventDetector
from stream.events.event import ActionEvent, rfc3339
from stream.events.snapshots import Snapshot, SnapshotStore, snapshot_name
from stream.events.writer import EventWriter
from stream.metrics import Metrics
from stream.types import StreamBreak, View

__all__ = ["Recognition"]

_log = logging.getLogger(__name__)
# Weight of the newest batch in the running mean of seconds per clip.
_NEWEST = 0.2


@dataclasses.dataclass
class _Best:
    """The picture, and to paint over it the clip, in which an action was surest; `kept` once the
    store has it.
    """

    confidence: float
    picture_HWC: NDArray[np.uint8]
    clip_BCTHW: Tensor | None
    kept: bool = False


class Recognition:
    """Network and events.

    Args:
        batch: how many batches may wait for the network, and how large they are.
        cameras: the configuration of a camera by its name; None for one that is gone.
        forget: told that nothing more comes of a camera that is gone.
        snapshots: takes the pictures of events; None for no pictures.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        events: EventConfig,
        writer: EventWriter,
        metrics: Metrics,
        batch: BatchConfig,
        cameras: Callable[[str], CameraConfig | None],
        forget: Callable[[str], None],
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self._recogniser = recogniser
        self._events = events
        self._writer = writer
        self._metrics = metrics
        self._cameras = cameras
        self._forget = forget
        self._snapshots = snapshots
        self._ready: queue.Queue[Clips | StreamBreak | None] = queue.Queue(batch.ready_batches)
        self._max_batch = batch.max_batch
        self._clips_waiting = 0
        self._seconds_per_clip = 0.0
        self._paints = snapshots is not None and snapshots.config.activation
        self._best: dict[str, _Best] = {}
        self._told_useless = False
        self._sequences: dict[str, Iterator[int]] = {}
        self._lock = threading.Lock()
        self.detectors: dict[View, EventDetector] = {}
        self.recent: collections.deque[ActionEvent] = collections.deque(maxlen=8)
        self.new: collections.deque[ActionEvent] = collections.deque(maxlen=10_000)
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.beat_monotonic = time.monotonic()

    def count(self, events: Sequence[ActionEvent]) -> None:
        """Count events, and show them to whoever looks on."""
        for event in events:
            self._metrics.events.labels(event.camera_id, event.action, event.kind).inc()
            self.counts[event.action, event.kind] += 1
            self.recent.append(event)
            self.new.append(event)

    # What the analysis thread calls ---------------------------------------------------------------

    def offer(self, work: Clips | StreamBreak | None, is_aborted: Callable[[], bool]) -> None:
        """Take work, waiting for room for as long as nothing has failed."""
        while not is_aborted():
            try:
                self._ready.put(work, timeout=0.2)
            except queue.Full:
                continue
            if isinstance(work, Clips):
                with self._lock:
                    self._clips_waiting += len(work.windows)
            return

    def is_behind(self, most_seconds: float, extra: int = 0) -> bool:
        """Whether a clip that is formed now, after so many others, would wait for longer than
        this, or finds no room.
        """
        batches = self._ready.qsize() + math.ceil((extra + 1) / self._max_batch)
        return (
            batches > self._ready.maxsize
            or (self._clips_waiting + extra) * self._seconds_per_clip > most_seconds
        )

    # The thread -----------------------------------------------------------------------------------

    def run(self, is_aborted: Callable[[], bool]) -> None:
        """Work until a None is offered, or something else failed; then end what goes on."""
        while (work := self._next(is_aborted)) is not None:
            if isinstance(work, StreamBreak):
                self._break(work)
            else:
                self._recognise(work)
        for detector in list(self.detectors.values()):
            self._announce(detector.finish("shutdown"))

    def active(self, camera_id: str) -> dict[str, float]:
        """Actions going on in front of a camera, with their confidence; those of a region carry
        its name.
        """
        found: dict[str, float] = {}
        for view, detector in list(self.detectors.items()):
            if view.camera_id == camera_id:
                found |= {
                    f"{view.region}: {action}" if view.region else action: value
                    for action, value in detector.active.items()
                }
        return found

    def _next(self, is_aborted: Callable[[], bool]) -> Clips | StreamBreak | None:
        while not is_aborted():
            self.beat_monotonic = time.monotonic()
            try:
                return self._ready.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def _recognise(self, work: Clips) -> None:
        begun = time.monotonic()
        count = len(work.windows)
        self._metrics.batch.observe(count)
        with self._metrics.stage.labels("infer").time():
            probabilities_BK = self._recogniser.probabilities(work.clips_BCTHW).tolist()
        per_clip = (time.monotonic() - begun) / count
        with self._lock:
            self._clips_waiting -= count
            self._seconds_per_clip += (per_clip - self._seconds_per_clip) * (
                _NEWEST if self._seconds_per_clip else 1.0
            )
        announced: list[ActionEvent] = []
        analysed: list[str] = []
        for index, (window, probabilities) in enumerate(
            zip(work.windows, probabilities_BK, strict=True)
        ):
            if self._cameras(window.view.camera_id) is None:
                continue  # removed meanwhile: its break follows
            detector = self._detector(window.view)
            try:
                events = detector.push(
                    probabilities,
                    pts_end_seconds=window.pts_end_seconds,
                    wall_end_seconds=window.wall_seconds,
                )
            except DataError as error:
                # numbers that are none: weights of another make, or damaged memory
                self._count_useless(window.view, error)
                continue
            analysed.append(window.view.camera_id)
            if window.picture_HWC is not None:
                self._note_pictures(
                    detector, window.picture_HWC, work.clips_BCTHW[index : index + 1]
                )
            announced += self._stamped(events)
        self.count(announced)
        self._writer.put(announced, [window.arrived_monotonic for window in work.windows])
        for camera_id in analysed:
            self._metrics.windows.labels(camera_id).inc()

    def _count_useless(self, view: View, error: DataError) -> None:
        self._metrics.dropped.labels(view.camera_id, "not_finite").inc()
        if not self._told_useless:
            self._told_useless = True
            _log.error(
                "the network gave no probabilities (%s); such clips are left out and counted", error
            )

    def _break(self, broken: StreamBreak) -> None:
        for view in [view for view in self.detectors if view.camera_id == broken.camera_id]:
            self._announce(self.detectors[view].finish(broken.reason))
            if broken.reason in FOR_GOOD:
                del self.detectors[view]
        if broken.reason in FOR_GOOD:
            self._sequences.pop(broken.camera_id, None)
            if self._cameras(broken.camera_id) is None:
                self._forget(broken.camera_id)

    def _detector(self, view: View) -> EventDetector:
        if view not in self.detectors:
            self.detectors[view] = self._new_detector(view)
        return self.detectors[view]

    def _new_detector(self, view: View) -> EventDetector:
        camera = self._cameras(view.camera_id)
        spec = self._recogniser.spec
        assert isinstance(spec, ModelSpec)
        if view.camera_id not in self._sequences:
            self._sequences[view.camera_id] = itertools.count(
                self._writer.next_sequence(view.camera_id)
            )
        return EventDetector(
            self._events if camera is None or camera.events is None else camera.events,
            labels=spec.labels,
            camera_id=view.camera_id,
            background=spec.background,
            clip_seconds=(spec.model.frames - 1) / spec.fps,
            model=spec.name,
            region=view.region,
            sequence=self._sequences[view.camera_id],
        )

    # Announcing -----------------------------------------------------------------------------------

    def _announce(self, events: Sequence[ActionEvent]) -> None:
        stamped = self._stamped(events)
        self.count(stamped)
        self._writer.put(stamped)

    def _stamped(self, events: Sequence[ActionEvent]) -> list[ActionEvent]:
        return [
            dataclasses.replace(
                event, produced_at=rfc3339(time.time()), snapshot=self._keep_picture(event)
            )
            for event in events
        ]

    def _note_pictures(
        self, detector: EventDetector, picture_HWC: NDArray[np.uint8], clip_BCTHW: Tensor
    ) -> None:
        """The picture of a window is that of everything that goes on in it and was never surer."""
        confidences = detector.active
        for action, event_id in detector.open_events.items():
            if event_id not in self._best or confidences[action] > self._best[event_id].confidence:
                self._best[event_id] = _Best(
                    confidences[action], picture_HWC, clip_BCTHW.clone() if self._paints else None
                )

    def _keep_picture(self, event: ActionEvent) -> str | None:
        """Hand the best picture so far to the store when an action starts and ends; returns its
        name.
        """
        best = self._best.get(event.event_id)
        if self._snapshots is None or best is None:
            return None
        name = snapshot_name(event.camera_id, event.event_id)
        if event.kind != "updated" and not best.kept:
            best.kept = self._snapshots.offer(Snapshot(name, self._painted(best)))
        if event.kind == "ended":
            del self._best[event.event_id]
        return name

    def _painted(self, best: _Best) -> NDArray[np.uint8]:
        if best.clip_BCTHW is None:
            return best.picture_HWC
        try:
            return self._recogniser.overlay(best.clip_BCTHW, best.picture_HWC)
        except Exception:  # a picture is never worth an event
            _log.exception("what the network looks at cannot be painted; the plain picture is kept")
            return best.picture_HWC
