"""The run as a live table in the terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from stream.pipeline import Pipeline
from stream.console.event_lines import event_line
from stream.console.printer import Printer

__all__ = ["LiveTable"]
_COLOURS = {
    "running": "green",
    "connecting": "yellow",
    "blocked": "yellow",
    "stalled": "red",
    "offline": "red",
    "ended": "dim",
}
# Title, head, frame, a line for the cameras that are left out, and eight events.
_OTHER_LINES = 14


class LiveTable:
    """Redraws a table of cameras and the latest events; on something that is not a terminal it
    prints events as lines.
    """

    def __init__(self, pipeline: Pipeline, console: Console, printer: Printer) -> None:
        self._pipeline = pipeline
        self._console = console
        self._printer = printer
        self._begun = time.monotonic()
        self._live = (
            Live(console=console, refresh_per_second=4, get_renderable=self._draw)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Callable[[], None]:
        if self._live is not None:
            self._live.start(refresh=True)
        return self.tick

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):  # a terminal that is gone
                self._live.stop()

    def tick(self) -> None:
        """Show what is new; terminals redraw by themselves."""
        if self._live is not None:
            return
        events = self._pipeline.recognition.new
        while events:
            event = events.popleft()
            if event.kind != "updated":
                self._printer.print(event_line(event))

    def _draw(self) -> Group:
        metrics = self._pipeline.metrics
        table = Table(
            "camera",
            "state",
            "fps",
            "frames",
            "clips",
            "now",
            "remark",
            title=f"{time.monotonic() - self._begun:5.0f} s",
            expand=False,
        )
        # The events keep their lines; when there is not room for all cameras, those in trouble come
        # first.
        statuses = sorted(
            self._pipeline.fleet.statuses, key=lambda status: status.state in ("running", "ended")
        )
        rows = max(3, self._console.size.height - _OTHER_LINES)
        shown = self._pipeline.fleet.statuses if len(statuses) <= rows else statuses[:rows]
        for status in shown:
            camera_id = status.camera.id
            active = self._pipeline.recognition.active(camera_id)
            table.add_row(
                camera_id,
                Text(status.state, _COLOURS[status.state]),
                f"{status.fps():.1f}",
                str(metrics.total(metrics.decoded, camera=camera_id)),
                str(metrics.total(metrics.windows, camera=camera_id)),
                ", ".join(f"{action} {confidence:.0%}" for action, confidence in active.items()),
                status.detail,
            )
        if len(shown) < len(statuses):
            table.add_row(f"and {len(statuses) - len(shown)} more")
        lines = [
            Text(event_line(event))
            for event in list(self._pipeline.recognition.recent)
            if event.kind != "updated"
        ]
        return Group(table, *lines)
