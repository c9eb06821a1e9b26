"""The event detector turns the class probabilities of a camera's clips into events.

It uses no clock, random numbers or device, so the same clips always give the same events.
"""

from __future__ import annotations

import itertools
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
        # for each active action: its event_id and its start in seconds since 1970
        self._open: dict[str, tuple[str, float]] = {}
        self._wall_end = 0.0

    @property
    def open_events(self) -> dict[str, str]:
        """The event_id of each active action."""
        return {action: event_id for action, (event_id, _) in self._open.items()}

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
            started_at = self._wall(found, found.start_seconds)
            name = f"{self._camera_id}/{self._region}/{found.action}/{started_at:.6f}/{number}"
            self._open[found.action] = (str(uuid.uuid5(_NAMESPACE, name)), started_at)
        event_id, started_at = self._open[found.action]
        ended_at = self._wall_end_of(found, started_at)
        if found.kind == "ended":
            del self._open[found.action]
        return ActionEvent(
            event_id=event_id,
            kind=found.kind,
            camera_id=self._camera_id,
            region=self._region,
            action=found.action,
            confidence=round(found.confidence, 4),
            started_at=rfc3339(started_at),
            ended_at=None if ended_at is None else rfc3339(ended_at),
            pts_start_seconds=round(found.start_seconds, 3),
            sequence=number,
            model=self._model,
            reason=reason,
            pts_end_seconds=None if found.end_seconds is None else round(found.end_seconds, 3),
            top_k=self._ranked(found),
            produced_at=rfc3339(self._wall_end),
        )

    def _ranked(self, found: Detection) -> tuple[tuple[str, float], ...]:
        """Return the most likely actions, with their smoothed probabilities."""
        if not found.smoothed:
            return ()
        pairs = sorted(zip(self._labels, found.smoothed, strict=True), key=lambda pair: -pair[1])
        return tuple((label, round(value, 4)) for label, value in pairs[: self._top_k])

    def _wall_end_of(self, found: Detection, started_at: float) -> float | None:
        """Return the end of an action in seconds since 1970; None while it is active.

        The duration is computed from presentation times, because the wall clock may be adjusted.
        The end is never later than that of the latest clip: a file may be read faster than real
        time.
        """
        if found.end_seconds is None:
            return None
        by_stream = started_at + found.end_seconds - found.start_seconds
        return max(started_at, min(by_stream, self._wall_end))

    def _wall(self, found: Detection, seconds: float) -> float:
        return self._wall_end - (found.at_seconds - seconds)
