"""Choose the picture of an event: the frame with the highest confidence of the network."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stream.events.event import ActionEvent
from stream.events.snapshots import Snapshot, snapshot_name

__all__ = ["EventPictures", "Paint", "PictureStore"]

_log = logging.getLogger(__name__)

# Draws what speaks for an action in `clip_BCTHW` over a frame, and the action's name with its
# confidence; returns a new frame.
Paint = Callable[[Tensor, NDArray[np.uint8], str, float], NDArray[np.uint8]]


class PictureStore(Protocol):
    """Stores pictures of events."""

    def offer(self, snapshot: Snapshot) -> bool:
        """Queue a picture without waiting; return False if the queue is full."""


@dataclasses.dataclass
class _Best:
    """The best frame of an event so far, and its clip if an activation map is to be drawn."""

    confidence: float
    frame_HWC: NDArray[np.uint8] | Tensor
    clip_BCTHW: Tensor | None
    is_stored: bool = False


class EventPictures:
    """Chooses the best frame of every open event and passes it to the store.

    Args:
        store: store of the pictures.
        paint: function that draws the activation map over a picture; None for plain pictures.
    """

    def __init__(self, store: PictureStore, paint: Paint | None = None) -> None:
        self._store = store
        self._paint = paint
        self._best: dict[str, _Best] = {}

    def note_frame(
        self,
        open_events: Mapping[str, str],
        confidences: Mapping[str, float],
        frame_HWC: NDArray[np.uint8] | Tensor,
        clip_BCTHW: Tensor,
    ) -> None:
        """Keep a frame for each open event whose confidence is the highest so far.

        Args:
            open_events: the event_id of each active action.
            confidences: the confidence of each active action in this clip.
            frame_HWC: the newest frame of the clip.
            clip_BCTHW: the clip, as the network received it; one batch entry.
        """
        for action, event_id in open_events.items():
            confidence = confidences[action]
            best = self._best.get(event_id)
            if best is None or confidence > best.confidence:
                clip = clip_BCTHW.clone() if self._paint is not None else None
                self._best[event_id] = _Best(confidence, frame_HWC, clip)

    def picture_of(self, event: ActionEvent) -> str | None:
        """Return the name of an event's picture, or None; store it at the start and the end."""
        best = self._best.get(event.event_id)
        if best is None:
            return None
        name = snapshot_name(event.camera_id, event.event_id)
        if event.kind != "updated" and not best.is_stored:
            best.is_stored = self._store.offer(Snapshot(name, self._painted(best, event.action)))
        if event.kind == "ended":
            del self._best[event.event_id]
        return name

    def _painted(self, best: _Best, action: str) -> NDArray[np.uint8]:
        # A frame that was decoded on a GPU is copied only now, when its picture is stored.
        frame_HWC = best.frame_HWC
        if not isinstance(frame_HWC, np.ndarray):
            frame_HWC = frame_HWC.cpu().numpy()
        if self._paint is None or best.clip_BCTHW is None:
            return frame_HWC
        try:
            return self._paint(best.clip_BCTHW, frame_HWC, action, best.confidence)
        except Exception:  # a failed picture must not prevent the event
            _log.exception("the activation map could not be drawn; storing the plain picture")
            return frame_HWC
