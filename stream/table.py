"""The run as a live table in the terminal."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream.events import ActionEvent

if TYPE_CHECKING:
    from stream.pipeline import Pipeline

__all__ = ["LiveTable", "Printer", "event_line", "place"]

_log = logging.getLogger(__name__)
_MOST_LINES = 10_000

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


class Printer:
    """Lines to standard output from a thread of its own: a full disk or a reader that does not read
    stops nothing else.

    Lines that cannot be written in time are left out, the oldest first; after an error nothing more
    is written.
    """

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=_MOST_LINES)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Write a line some time; never waits."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self, timeout_seconds: float = 3.0) -> None:
        """Write what waits, for at most this long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._lines or self._closing)
                    if not self._lines:
                        return
                    line = self._lines.popleft()
                _write(line + "\n")
        except OSError as error:
            _log.warning(
                "nothing more is printed: standard output cannot be written (%s)", error.strerror
            )


def _write(text: str) -> None:
    """Past Python's buffer, whose lock a blocked writer would hold when the program ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):  # not a file: a test's buffer
        sys.stdout.write(text)
        return
    data = text.encode(sys.stdout.encoding or "utf-8", errors="replace")
    while data:
        data = data[os.write(descriptor, data) :]


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


def place(event: ActionEvent) -> str:
    """The camera, and the region if it has any."""
    return f"{event.camera_id}/{event.region}" if event.region else event.camera_id


def event_line(event: ActionEvent) -> str:
    """One event in one line: when (UTC) it started or ended, where, what, when in the stream."""
    head = (
        f"{(event.ended_at or event.started_at)[11:19]}  {place(event):<12} {event.kind:<8}"
        f" {event.action:<12} "
    )
    if event.kind == "ended":
        return (
            head
            + f"{event.pts_start_seconds:.1f} to {event.pts_end_seconds:.1f} s ({event.reason})"
        )
    return head + f"from {event.pts_start_seconds:.1f} s, {event.confidence:.0%}"
