"""What reading a camera needs from whoever supervises it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from stream.cameras.config import CameraConfig
from stream.types import CameraState, EndReason, StreamItem

__all__ = ["Outlet", "Status", "Threads"]


class Status(Protocol):
    """Where a camera's state is reported."""

    @property
    def camera(self) -> CameraConfig:
        """The camera's settings."""

    @property
    def state(self) -> CameraState:
        """The state now."""

    @property
    def epoch(self) -> int | None:
        """How often workers took the camera over; None unless they share cameras."""

    def set_source(self, *, is_recording: bool, read_timeout_seconds: float) -> None:
        """Note what the address turned out to be, and how long a read may take."""

    def set_state(self, state: CameraState, detail: str = "") -> None:
        """Enter a state; `detail` is one line for people."""

    def end(self, reason: EndReason, detail: str | None = None) -> None:
        """Enter the state `ended`."""

    def set_blocked(self, blocked: bool) -> None:
        """Note that the stages behind the camera are slow, or no longer are."""

    def touch(self, *, received: bool = True, decoded: bool = True) -> None:
        """Give a sign of life of the receiver, the decoder, or both."""

    def count_decoded(self, arrived_monotonic: float) -> None:
        """Count a decoded frame."""


class Threads(Protocol):
    """One opening of a camera: its threads, its state, and the event that asks it to end."""

    @property
    def status(self) -> Status:
        """Where the camera's state is reported."""

    @property
    def generation(self) -> int:
        """The number of this opening."""

    @property
    def stop(self) -> threading.Event:
        """Set when the threads should end."""

    resting: bool

    def spawn(self, run: Callable[[], None], name: str) -> None:
        """Run something in a further thread."""


class Outlet(Protocol):
    """Where a camera's items go."""

    def put(
        self,
        item: StreamItem,
        stop: threading.Event | None = None,
        on_blocked: Callable[[bool], None] = ...,
        *,
        max_wait_seconds: float = ...,
    ) -> bool:
        """Take an item, waiting while there is no room; False if it was not taken."""
