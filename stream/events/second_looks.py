"""Offers actions that have started for a second look, and makes events of the answers.

An answer comes seconds later. It becomes an event only while this pipeline still has the camera:
a camera that was removed or moved to another worker meanwhile belongs to others.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from torch import Tensor

from stream.events.event import ActionEvent, rfc3339
from stream.events.verification import Verification
from stream.types import CameraOpened

__all__ = ["Looker", "SecondLooks"]

_log = logging.getLogger(__name__)


class Looker(Protocol):
    """Takes the looks; no method waits."""

    def offer(self, event: ActionEvent, clip_CTHW: Tensor, owner: object) -> None:
        """Queue a look at an action that has started; `owner` comes back with the answer."""

    def answers(self) -> list[tuple[ActionEvent, object, Verification]]:
        """Return the answers since the last call, with event and owner."""

    def count_answer(self, verification: Verification) -> None:
        """Count an answer that became an event."""

    def count_failure(self, reason: Literal["camera_gone", "failed"]) -> None:
        """Count a look that does not become an event."""


@dataclasses.dataclass(eq=False)
class _Tenure:
    """The time for which this pipeline has a camera, in one epoch; compared by identity."""

    epoch: int | None


class SecondLooks:
    """The looks of one pipeline. The thread that makes the events calls all methods."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._tenures: dict[str, _Tenure] = {}
        self._has_failed = False

    def open(self, opened: CameraOpened) -> None:
        """Note that this pipeline has the camera."""
        tenure = self._tenures.get(opened.camera_id)
        if tenure is None or tenure.epoch != opened.epoch:
            self._tenures[opened.camera_id] = _Tenure(opened.epoch)

    def forget(self, camera_id: str) -> None:
        """Note that this pipeline no longer has the camera."""
        self._tenures.pop(camera_id, None)

    def offer(self, event: ActionEvent, clip_CTHW: Tensor) -> None:
        """Offer a `started` event for a second look; an error costs only this look."""
        try:
            self._looker.offer(event, clip_CTHW, self._tenures[event.camera_id])
        except Exception:  # events and video must go on
            self._looker.count_failure("failed")
            if not self._has_failed:
                self._has_failed = True
                _log.exception("an action could not be offered for a second look")

    def verified(self, next_number: Callable[[str, int | None], int]) -> Iterator[ActionEvent]:
        """Yield the events of the answers that came since the last call.

        Args:
            next_number: returns the next number of a camera in an epoch. It is called for each
                event just before the event is yielded, so numbers are in the order of events.
        """
        for event, owner, verification in self._looker.answers():
            tenure = self._tenures.get(event.camera_id)
            if tenure is None or tenure is not owner:
                self._looker.count_failure("camera_gone")
                continue
            self._looker.count_answer(verification)
            yield dataclasses.replace(
                event,
                kind="verified",
                sequence=next_number(event.camera_id, event.epoch),
                produced_at=rfc3339(time.time()),
                verification=verification,
                seen_until=None,
            )
