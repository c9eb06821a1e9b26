"""The announcer turns the class probabilities of clips into events and passes them on."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from configs import DataError
from model.checkpoints.weights import ModelSpec
from stream.batch_times import BatchTimes
from stream.events.config import EventConfig
from stream.events.detector import EventDetector
from stream.events.event import ActionEvent, rfc3339
from stream.events.event_pictures import EventPictures
from stream.events.second_looks import SecondLooks
from stream.metrics import Metrics
from stream.types import BreakReason, CameraOpened, ClipRef, ClipResults, StreamBreak, View

__all__ = ["Announcement", "Announcer", "BeginTrace", "Subscriber"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Announcement:
    """Events from one batch of clips, in order, with the arrival times of those clips.

    `events` may be empty; the arrival times are still needed to measure the latency of the clips.
    `trace_ids` has the trace of each clip, None for most; it is empty without tracing.
    """

    events: tuple[ActionEvent, ...]
    arrived_monotonic: tuple[float, ...] = ()
    trace_ids: tuple[str | None, ...] = ()


Subscriber = Callable[[Announcement], None]
# Begins the trace of an event: with its clip and the times of its batch, unless it has no clip.
# Returns the event's `traceparent`; None without tracing.
BeginTrace = Callable[[ActionEvent, ClipRef | None, BatchTimes | None], str | None]


class Announcer:
    """Runs one detector per view and announces what the detectors find.

    One thread calls all methods, in the order of the stream; any thread may call `active`.

    Args:
        spec: description of the network, with its labels and clip length.
        events: event settings for cameras without their own `events` section.
        next_sequence: function that returns the next event number of a camera in an epoch, from the
            stored events.
        subscribers: functions that are called with every announcement, in this order.
        pictures: chooser of the pictures of events; None for no pictures.
        worker: name of this worker, for its events; None if it is the only one.
        looks: takes second looks at actions; None: nobody does.
        begin_trace: called for each event; None without tracing.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        events: EventConfig,
        next_sequence: Callable[[str, int | None], int],
        subscribers: Sequence[Subscriber],
        metrics: Metrics,
        pictures: EventPictures | None = None,
        worker: str | None = None,
        looks: SecondLooks | None = None,
        begin_trace: BeginTrace | None = None,
    ) -> None:
        self._spec = spec
        self._events = events
        self._next_sequence = next_sequence
        self._subscribers = subscribers
        self._metrics = metrics
        self._pictures = pictures
        self._worker = worker
        self._looks = looks
        self._begin_trace = begin_trace
        self._detectors: dict[View, EventDetector] = {}
        self._sequences: dict[str, Iterator[int]] = {}
        self._has_warned = False

    def open(self, opened: CameraOpened) -> None:
        """Create the detectors of a camera that was opened."""
        if self._looks is not None:
            self._looks.open(opened)
        for view in opened.config.views:
            self._detectors[view] = self._new_detector(view, opened)

    def push(self, results: ClipResults) -> None:
        """Pass the results of a batch to the detectors and announce the resulting events."""
        announced: list[ActionEvent] = []
        started: list[tuple[ActionEvent, int]] = []
        analysed: list[str] = []
        trace_ids: list[str | None] = [None] * len(results.refs)
        for index, ref in enumerate(results.refs):
            detector = self._detectors[ref.view]
            try:
                events = detector.push(
                    results.probabilities_BK[index],
                    pts_end_seconds=ref.pts_end_seconds,
                    wall_end_seconds=ref.wall_seconds,
                )
            except DataError as error:
                self._count_invalid(ref.view, error)
                continue
            analysed.append(ref.view.camera_id)
            if self._pictures is not None and ref.frame_HWC is not None:
                self._pictures.note_frame(
                    detector.open_events,
                    detector.active,
                    ref.frame_HWC,
                    results.clips_BCTHW[index : index + 1],
                )
            completed = self._completed(events, ref, results.times)
            trace_ids[index] = _trace_id(completed)
            started += [(event, index) for event in completed if event.kind == "started"]
            announced += completed
        arrived = tuple(ref.arrived_monotonic for ref in results.refs)
        self._tell(announced, arrived, tuple(trace_ids))
        for camera_id in analysed:
            self._metrics.clips.labels(camera_id).inc()
        if self._looks is not None:  # after the events were passed on: looks never delay them
            for event, index in started:
                self._looks.offer(event, results.clips_BCTHW[index])

    def tick(self) -> None:
        """Announce the answers of second looks; call this several times a second."""
        if self._looks is not None:
            for event in self._looks.verified(self._next_number):
                self._tell([event])

    def interrupt(self, broken: StreamBreak) -> None:
        """End a camera's open events; forget the camera if it sends no more clips."""
        for view in self._views_of(broken.camera_id):
            self._tell(self._completed(self._detectors[view].finish(broken.reason)))
            if broken.reason.is_final:
                del self._detectors[view]
        if broken.reason.is_final:
            self._sequences.pop(broken.camera_id, None)
        if broken.reason.is_departure:
            if self._looks is not None:
                self._looks.forget(broken.camera_id)
            self._metrics.forget(broken.camera_id, broken.generation)

    def finish(self) -> None:
        """End all open events because the pipeline shuts down."""
        for detector in list(self._detectors.values()):
            self._tell(self._completed(detector.finish(BreakReason.SHUTDOWN)))

    def active(self, camera_id: str) -> dict[str, float]:
        """Return a camera's current actions and confidences; names include the region, if any."""
        found: dict[str, float] = {}
        for view, detector in list(self._detectors.items()):
            if view.camera_id != camera_id:
                continue
            for action, confidence in detector.active.items():
                name = f"{view.region}: {action}" if view.region else action
                found[name] = confidence
        return found

    def _next_number(self, camera_id: str, epoch: int | None) -> int:
        numbers = self._sequences.get(camera_id)  # None: the camera has ended or is paused
        return self._next_sequence(camera_id, epoch) if numbers is None else next(numbers)

    def _views_of(self, camera_id: str) -> list[View]:
        return [view for view in self._detectors if view.camera_id == camera_id]

    def _new_detector(self, view: View, opened: CameraOpened) -> EventDetector:
        if view.camera_id not in self._sequences:
            first = self._next_sequence(view.camera_id, opened.epoch)
            self._sequences[view.camera_id] = itertools.count(first)
        return EventDetector(
            opened.config.events or self._events,
            labels=self._spec.labels,
            camera_id=view.camera_id,
            background=self._spec.background,
            clip_seconds=(self._spec.model.frames - 1) / self._spec.fps,
            model=self._spec.name,
            region=view.region,
            sequence=self._sequences[view.camera_id],
            is_live=not opened.waits,
            epoch=opened.epoch,
        )

    def _count_invalid(self, view: View, error: DataError) -> None:
        """Count a result that is not probabilities, due to bad weights or damaged memory."""
        self._metrics.dropped_clips.labels(view.camera_id, "not_finite").inc()
        if not self._has_warned:
            self._has_warned = True
            _log.error("the network returned invalid probabilities (%s); dropping the clips", error)

    def _completed(
        self,
        events: Sequence[ActionEvent],
        ref: ClipRef | None = None,
        times: BatchTimes | None = None,
    ) -> list[ActionEvent]:
        """Return the events with the current time, their picture's name and their trace added."""
        if not events:
            return []
        begin = self._begin_trace
        produced_at = rfc3339(time.time())
        return [
            dataclasses.replace(
                event,
                produced_at=produced_at,
                snapshot=None if self._pictures is None else self._pictures.picture_of(event),
                worker=self._worker,
                traceparent=None if begin is None else begin(event, ref, times),
            )
            for event in events
        ]

    def _tell(
        self,
        events: Sequence[ActionEvent],
        arrived_monotonic: tuple[float, ...] = (),
        trace_ids: tuple[str | None, ...] = (),
    ) -> None:
        announcement = Announcement(tuple(events), arrived_monotonic, trace_ids)
        for subscriber in self._subscribers:
            subscriber(announcement)


def _trace_id(events: Sequence[ActionEvent]) -> str | None:
    """Return the id of the first trace that is recorded; None if there is none."""
    for event in events:
        if event.traceparent is not None and event.traceparent.endswith("-01"):
            return event.traceparent.split("-")[1]
    return None
