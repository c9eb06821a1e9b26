"""Items made in a thread: order, how far ahead, errors, and the end of the thread."""

import threading
import time
from collections.abc import Generator

import pytest

from train.data.prefetch import prefetched


class Source:
    """Makes numbers, and remembers what it made and whether it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.is_closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                self.made.append(number)
                self.threads.add(threading.get_ident())
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True


def test_items_come_in_order_from_another_thread() -> None:
    source = Source(100)
    assert list(prefetched(source.items, capacity=3)) == list(range(100))
    assert source.threads.isdisjoint({threading.get_ident()})
    assert source.is_closed


def test_the_thread_is_only_a_few_items_ahead() -> None:
    source = Source(100)
    items = prefetched(source.items, capacity=3)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(source.made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert source.made == [0, 1, 2, 3, 4]  # one taken, three waiting, one at the door
    items.close()


def test_an_error_is_raised_after_the_items_made_before_it() -> None:
    error = OSError("the disk is gone")
    items = prefetched(Source(2, error).items, capacity=3)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone") as raised:
        next(items)
    assert raised.value is error


def test_an_error_before_the_first_item_is_raised() -> None:
    def fail() -> Generator[int, None, None]:
        raise ValueError("no graph")

    with pytest.raises(ValueError, match="no graph"):
        next(prefetched(fail, capacity=3))


def test_closing_ends_the_thread_and_the_source() -> None:
    before = threading.active_count()
    source = Source(1_000_000)
    items = prefetched(source.items, capacity=3)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
    assert source.is_closed
