"""What one machine carries and needs: sums against sums by hand, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.capacity_table import main, memory_megabytes, outbox_megabytes
from scripts.scaling_inputs import value
from scripts.scaling_sums import cameras_on
from stream.events.config import OutboxConfig
from tests import ROOT

PAGE = Path(ROOT / "docs/capacity.md").read_text(encoding="utf-8")


def test_the_tables_in_the_docs_are_those_that_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main() == 0
    printed = capsys.readouterr().out
    for part in printed.split("\n## "):
        assert part.rstrip("\n") in PAGE, "run: python -m scripts.capacity_table"
    assert PAGE.count("\n## ") == printed.count("\n## ") + 1


def test_only_what_was_measured_is_called_so() -> None:
    [measured] = re.findall(r"^\|.*\(measured\).*$", PAGE, re.MULTILINE)
    assert measured == f"| 2 | the demo's | {value('cameras_per_pair'):.0f} (measured) | 10 |"
    assert "H100" not in PAGE


def test_memory_goes_through_the_measured_points() -> None:
    assert memory_megabytes(1) == value("memory_one_megabytes")
    assert memory_megabytes(10) == pytest.approx(value("memory_ten_megabytes"))


def test_disk_by_hand() -> None:
    # 60 actions an hour with two events of 1440 bytes, ten cameras, one day
    assert outbox_megabytes(10, "calm", 24) == pytest.approx(60 * 2 * 10 * 24 * 1440 / 1e6)
    full = OutboxConfig().max_events * value("outbox_bytes") / 1e6
    assert outbox_megabytes(120, "busy", 1000) == full


def test_cameras_by_hand() -> None:
    assert [cameras_on(cores) for cores in (2, 4, 16)] == [15, 30, 120]
    # 0.611 s * 2 cores / 8 clips * 3.75 clips a second = 0.573 cores, and 0.088 for the rest
    assert cameras_on(2, large_network=True) == int(2 / 0.661)
