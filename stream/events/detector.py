"""The event detector turns the class probabilities of a camera's clips into events.

It uses no clock, random numbers or device, so the same clips always give the same events.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from configs import check_tree
from model.detection import ActionDetector, Detection
from stream.events.config import EventConfig
from stream.events.event import ActionEvent, rfc3339
from stream.types import BreakReason

__all__ = ["EventDetector"]
_NAMESPACE = uuid.UUID("5b0d6d4e-3f0b-5c7e-9d2a-6a1c4cf0a7e1")


@dataclasses.dataclass
class _Open:
    """An active action: its event_id, and its start in seconds since 1970, in milliseconds."""

    event_id: str
    started_at: float
    clock_was_set_back: bool = False

    def __post_init__(self) -> None:
        # Published times have milliseconds; the difference of two of them must be the duration.
        self.started_at = math.floor(round(self.started_at * 1e6) / 1e3) / 1e3


class EventDetector:
    """State machine that detects the events of one camera, or of one region of it.

    Args:
        config: thresholds and durations, as an `EventConfig` or as a mapping with the keys of the
            section `events`; None for the defaults.
        labels: class names in the order of the probabilities.
        background: label that is ignored, unless the configuration names other labels to ignore.
        camera_id, model, region: values that are copied into the events.
        clip_seconds: time from the first to the last frame of a clip; the default is that of 32
            frames at 15 frames per second.
        first_sequence: number of the first event.
        sequence: iterator of event numbers, used instead of `first_sequence`; several detectors
            can share it.
        epoch: grows each time that a worker takes the camera over; a part of the events.
        is_live: whether the video arrives as fast as it was recorded. Otherwise it may be read
            faster than that, and no event ends later than its last clip by the clock.

    Raises:
        ConfigError: a setting is wrong, or names a label that does not exist.
    """

    def __init__(
        self,
        config: EventConfig | Mapping[str, Any] | None = None,
        *,
        labels: Sequence[str],
        camera_id: str,
        clip_seconds: float = 31 / 15,
        background: str | None = None,
        model: str = "",
        region: str | None = None,
        first_sequence: int = 1,
        sequence: Iterator[int] | None = None,
        is_live: bool = False,
        epoch: int | None = None,
    ) -> None:
        if not isinstance(config, EventConfig):
            config = check_tree(dict(config or {}), EventConfig, name="events")
        self._detector = ActionDetector(
            config, labels=labels, clip_seconds=clip_seconds, background=background
        )
        self._top_k = config.top_k
        self._labels = tuple(labels)
        self._camera_id = camera_id
        self._region = region
        self._model = model
        self._sequence = itertools.count(first_sequence) if sequence is None else sequence
        self._is_live = is_live
        self._epoch = epoch
        self._open: dict[str, _Open] = {}
        self._wall_end = 0.0

    @property
    def open_events(self) -> dict[str, str]:
        """The event_id of each active action."""
        return {action: each.event_id for action, each in self._open.items()}

    @property
    def active(self) -> dict[str, float]:
        """The active actions, with their latest confidence."""
        return self._detector.active

    def push(
        self, probabilities: Sequence[float], *, pts_end_seconds: float, wall_end_seconds: float
    ) -> list[ActionEvent]:
        """Process the result of the next clip and return the resulting events.

        Args:
            probabilities: one probability for each label.
            pts_end_seconds: end of the clip in presentation time of the stream.
            wall_end_seconds: end of the clip in seconds since 1970.

        Raises:
            DataError: the number of probabilities differs from the number of labels, or a
                probability is not finite or not between 0 and 1.
        """
        found = self._detector.push(probabilities, pts_end_seconds)
        if wall_end_seconds < self._wall_end:
            for each in self._open.values():
                each.clock_was_set_back = True
        self._wall_end = wall_end_seconds
        return [
            self._event(detection, reason="over" if detection.kind == "ended" else None)
            for detection in found
        ]

    def finish(self, reason: BreakReason) -> list[ActionEvent]:
        """End all active actions and discard those not yet reported, at a break of the stream."""
        return [self._event(detection, reason=reason) for detection in self._detector.finish()]

    def _event(self, found: Detection, *, reason: str | None) -> ActionEvent:
        number = next(self._sequence)
        if found.kind == "started":
            started_at = self._wall_end - (found.at_seconds - found.start_seconds)
            name = f"{self._camera_id}/{self._region}/{found.action}/{started_at:.6f}/{number}"
            if self._epoch is not None:  # two workers may see the same action
                name += f"/{self._epoch}"
            self._open[found.action] = _Open(str(uuid.uuid5(_NAMESPACE, name)), started_at)
        of = self._open[found.action]
        end = found.at_seconds if found.end_seconds is None else found.end_seconds
        until = (rfc3339(self._wall_end_of(found, of, end)), round(end, 3))
        is_over = found.kind == "ended"
        if is_over:
            del self._open[found.action]
        return ActionEvent(
            event_id=of.event_id,
            kind=found.kind,
            camera_id=self._camera_id,
            region=self._region,
            action=found.action,
            confidence=round(found.confidence, 4),
            started_at=rfc3339(of.started_at),
            ended_at=until[0] if is_over else None,
            pts_start_seconds=round(found.start_seconds, 3),
            sequence=number,
            model=self._model,
            reason=reason,
            pts_end_seconds=until[1] if is_over else None,
            top_k=self._ranked(found),
            produced_at=rfc3339(self._wall_end),
            epoch=self._epoch,
            seen_until=None if is_over else until,
        )

    def _ranked(self, found: Detection) -> tuple[tuple[str, float], ...]:
        """Return the most likely actions, with their smoothed probabilities."""
        if not found.smoothed:
            return ()
        pairs = sorted(zip(self._labels, found.smoothed, strict=True), key=lambda pair: -pair[1])
        return tuple((label, round(value, 4)) for label, value in pairs[: self._top_k])

    def _wall_end_of(self, found: Detection, of: _Open, end_seconds: float) -> float:
        """Return the end of an action, or its latest moment so far, in seconds since 1970.

        The duration is that of the stream, because the clock may be adjusted. If video may be read
        faster than real time, the end is not later than that of the latest clip. The clock gives no
        such limit if it was set back since the start.
        """
        lasted = max(0.0, round(end_seconds, 3) - round(found.start_seconds, 3))
        by_stream = of.started_at + lasted
        if self._is_live or of.clock_was_set_back:
            return by_stream
        return max(of.started_at, min(by_stream, self._wall_end))
