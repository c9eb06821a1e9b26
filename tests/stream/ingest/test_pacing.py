"""When the packets of a file are due."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from fractions import Fraction

import pytest

from stream.ingest.pacing import Pacing


@dataclasses.dataclass
class Packet:
    """What pacing needs of a packet."""

    dts: int
    size: int = 100
    pts: int | None = None
    time_base: Fraction = Fraction(1, 1000)


class Clock:
    """A clock that only waiting moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("stream.ingest.pacing.time.monotonic", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds


def arrivals(monkeypatch: pytest.MonkeyPatch, times: Sequence[float]) -> list[float]:
    """When packets with these times arrive, in seconds since the first one."""
    clock = Clock(monkeypatch)
    stop = threading.Event()
    stop.wait = clock.wait  # type: ignore[method-assign, assignment]
    pacing = Pacing(max_behind_seconds=4.0, stop=stop, on_rest=lambda resting: None)
    return [pacing.arrival(Packet(round(time * 1000))) - 100.0 for time in times]


@pytest.mark.parametrize("offset", [3600.0, 30.0, -30.0, -3600.0])
def test_a_packet_with_a_wrong_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    times = [index / 25 for index in range(200)]
    stamped = [time + offset * (index % 50 == 25) for index, time in enumerate(times)]
    found = arrivals(monkeypatch, stamped)
    assert found == pytest.approx([t - 0.04 * (index % 50 == 25) for index, t in enumerate(times)])


def test_a_pause_is_waited_for_and_a_jump_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0, 1, 2, 12, 13, 14]  # ten seconds without packets; the first one after it is early
    assert arrivals(monkeypatch, times) == pytest.approx([0, 1, 2, 2, 13, 14])
    times = [0, 1, 2, 500, 501, 502]
    assert arrivals(monkeypatch, times) == pytest.approx([0, 1, 2, 2, 2, 3])
    times = [100, 101, 102, 0, 1, 2]
    assert arrivals(monkeypatch, times) == pytest.approx([0, 1, 2, 2, 2, 3])
