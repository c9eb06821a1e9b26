"""A live table of a run's cameras and events in the terminal."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from configs import readable
from stream.console.event_lines import event_line
from stream.console.printer import Printer
from stream.events.event import ActionEvent
from stream.metrics import Metrics
from stream.types import CameraSnapshot

__all__ = ["LiveTable", "Run"]

_COLOURS = {
    "running": "green",
    "connecting": "yellow",
    "blocked": "yellow",
    "stalled": "red",
    "offline": "red",
    "ended": "dim",
}
_COLUMNS = ("camera", "state", "fps", "frames", "clips", "now", "remark")
_SHOWN_EVENTS = 8
# Lines used for everything but cameras: title, header, borders, number of hidden cameras, events.
_OTHER_LINES = 6 + _SHOWN_EVENTS
_MAX_WAITING_EVENTS = 10_000


class Run(Protocol):
    """The attributes and methods of a pipeline that the table uses."""

    metrics: Metrics

    def cameras(self) -> Sequence[CameraSnapshot]:
        """Return the status of every camera."""

    def active(self, camera_id: str) -> Mapping[str, float]:
        """Return the active actions of a camera, with their confidence."""


class LiveTable:
    """Shows a table of cameras and events; without a terminal, prints each event as a line."""

    def __init__(self, run: Run, console: Console, printer: Printer) -> None:
        self._run = run
        self._console = console
        self._printer = printer
        self._started_at = time.monotonic()
        self._latest: collections.deque[ActionEvent] = collections.deque(maxlen=_SHOWN_EVENTS)
        self._new: collections.deque[ActionEvent] = collections.deque(maxlen=_MAX_WAITING_EVENTS)
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, get_renderable=self.draw)

    def __enter__(self) -> Callable[[], None]:
        if self._live is not None:
            self._live.start(refresh=True)
        return self.tick

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._live.stop()

    def take(self, events: Sequence[ActionEvent]) -> None:
        """Add events to show; any thread may call this."""
        for event in events:
            if event.kind != "updated":
                self._latest.append(event)
                self._new.append(event)

    def tick(self) -> None:
        """Print new events if there is no terminal; in a terminal, the table redraws itself."""
        if self._live is not None:
            return
        while self._new:
            self._printer.print(event_line(self._new.popleft()))

    def draw(self) -> Group:
        """Return the current table and the latest events."""
        seconds = time.monotonic() - self._started_at
        table = Table(*_COLUMNS, title=f"{seconds:5.0f} s", expand=False)
        cameras = self._run.cameras()
        shown = self._most_important(cameras)
        for camera in shown:
            table.add_row(*self._row(camera))
        if len(shown) < len(cameras):
            table.add_row(f"and {len(cameras) - len(shown)} more")
        return Group(table, *(Text(event_line(event)) for event in list(self._latest)))

    def _most_important(self, cameras: Sequence[CameraSnapshot]) -> Sequence[CameraSnapshot]:
        """Return the cameras that fit on the screen; cameras with a problem come first."""
        room = max(3, self._console.size.height - _OTHER_LINES)
        if len(cameras) <= room:
            return cameras
        return sorted(cameras, key=_is_fine)[:room]

    def _row(self, camera: CameraSnapshot) -> tuple[str | Text, ...]:
        metrics = self._run.metrics
        name = camera.camera_id
        active = self._run.active(name)
        shown = ", ".join(f"{action} {confidence:.0%}" for action, confidence in active.items())
        # As Text, because rich reads brackets in a plain string as a style; and without control
        # characters, which rich passes on to the terminal.
        return (
            Text(readable(name)),
            Text(camera.state, _COLOURS[camera.state])
            if camera.blind is None
            else Text("blind", "red"),
            f"{camera.fps:.1f}",
            str(metrics.total(metrics.decoded, camera=name)),
            str(metrics.total(metrics.clips, camera=name)),
            Text(readable(shown)),
            Text(readable(camera.detail if camera.blind is None else camera.blind.detail)),
        )


def _is_fine(camera: CameraSnapshot) -> bool:
    return camera.blind is None and camera.state in ("running", "ended")
