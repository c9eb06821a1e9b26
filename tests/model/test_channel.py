"""The bounded hand-over between threads."""

from __future__ import annotations

import threading
import time

import pytest

from model.channel import Channel


def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    channel: Channel[int] = Channel(3)
    received: list[int] = []
    taker = threading.Thread(target=lambda: received.extend(channel))
    taker.start()
    for number in range(1000):
        assert channel.put(number)
        assert len(channel) <= channel.capacity
    channel.close()
    taker.join(10)
    assert received == list(range(1000))
    assert channel.is_drained


def test_a_full_channel_makes_the_sender_wait_and_says_when_the_time_is_over() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put(1)
    started_at = time.monotonic()
    assert not channel.put(2, timeout_seconds=0.05)
    assert time.monotonic() - started_at >= 0.05
    assert channel.take() == 1
    assert channel.put(2, timeout_seconds=0)
    assert channel.take() == 2
    assert channel.take(timeout_seconds=0.01) is None


def test_a_closed_channel_takes_nothing_and_gives_what_it_holds() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.close()
    assert not channel.put(2)
    assert not channel.is_drained
    assert list(channel) == [1]


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_whoever_waits_is_woken_at_the_end(end: str) -> None:
    full: Channel[int] = Channel(1)
    full.put(0)
    empty: Channel[int] = Channel(1)
    results: list[object] = []
    waiting = [
        threading.Thread(target=lambda: results.append(full.put(1))),
        threading.Thread(target=lambda: results.append(empty.take())),
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.05)
    for channel in (full, empty):
        getattr(channel, end)()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()
    assert sorted(map(str, results)) == ["False", "None"]
    assert list(full) == ([0] if end == "close" else [])


def test_a_channel_holds_at_least_one_item() -> None:
    with pytest.raises(ValueError, match="capacity 0"):
        Channel(0)
