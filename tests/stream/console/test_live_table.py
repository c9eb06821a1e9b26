"""The live table shows texts as they are."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from stream.console.live_table import LiveTable
from stream.console.printer import Printer
from stream.metrics import Metrics
from stream.types import CameraSnapshot
from tests.support.factory import make_event


class OneCamera:
    """A run of one camera; texts with brackets, which rich would read as styles."""

    metrics = Metrics()

    def cameras(self) -> list[CameraSnapshot]:
        return [CameraSnapshot("yard", "offline", "[tls @ 0x1] closed [/x]\x1b[2J\n", 0.0, None)]

    def active(self, camera_id: str) -> dict[str, float]:
        return {"[red]握手[/y]\x9b": 0.5}


@pytest.mark.parametrize("width", [20, 200])
def test_brackets_in_labels_and_remarks_are_shown(width: int) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=width, force_terminal=True, color_system=None)
    table = LiveTable(OneCamera(), console, Printer())
    table.take([dataclasses.replace(make_event(1), action="[/z]\x1b\r", camera_id="yard\x7f")])
    console.print(table.draw())
    assert not set("\x1b\x9b\x7f\r") & set(printed.getvalue())
    if width == 200:
        assert "[tls @ 0x1] closed [/x]" in printed.getvalue()
        assert "[red]握手[/y]\\x9b 50%" in printed.getvalue()
        assert "[/z]" in printed.getvalue()
