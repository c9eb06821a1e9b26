"""Items read ahead in threads: order, how much is read ahead, errors, closing."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from train.data.read_ahead import read_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


def reading(
    pool: ThreadPoolExecutor,
    read: Callable[[int], bytes],
    count: int,
    *,
    capacity: int = 8,
    max_bytes: int = 1 << 20,
) -> Generator[bytes, None, None]:
    return read_ahead(
        read, range(count), pool=pool, capacity=capacity, size_of=len, max_bytes=max_bytes
    )


def settled(numbers: list[int]) -> list[int]:
    """Wait until nothing was added for a while."""
    count = -1
    while count != len(numbers):
        count = len(numbers)
        time.sleep(0.1)
    return sorted(numbers)


def test_items_come_in_order_although_later_ones_are_read_first(pool: ThreadPoolExecutor) -> None:
    last_was_read = threading.Event()

    def read(number: int) -> bytes:
        if number == 3:
            last_was_read.set()
        assert number == 3 or last_was_read.wait(10)
        return bytes([number])

    assert list(reading(pool, read, 4)) == [b"\0", b"\1", b"\2", b"\3"]


def test_reading_goes_on_while_the_consumer_is_busy(pool: ThreadPoolExecutor) -> None:
    seen: list[int] = []

    def read(number: int) -> bytes:
        seen.append(number)
        return b"x"

    items = reading(pool, read, 100, capacity=5)
    next(items)
    assert settled(seen) == [0, 1, 2, 3, 4, 5]  # one taken, five ahead
    items.close()


def test_nothing_further_is_read_while_much_waits(pool: ThreadPoolExecutor) -> None:
    seen: list[int] = []

    def read(number: int) -> bytes:
        seen.append(number)
        return bytes(100)

    with ThreadPoolExecutor(1) as single:
        items = reading(single, read, 100, capacity=50, max_bytes=250)
        next(items)
        while len(settled(seen)) < 20:
            next(items)
        before = len(settled(seen))
        for _ in range(10):
            next(items)
            settled(seen)
        # Each item taken is replaced, and what waits stays below the limit and one item more.
        assert len(seen) - before <= 13
        items.close()


def test_an_error_is_raised_in_its_place(pool: ThreadPoolExecutor) -> None:
    def read(number: int) -> bytes:
        if number == 2:
            raise OSError("the disk is gone")
        return b"x"

    items = reading(pool, read, 5)
    assert [next(items), next(items)] == [b"x", b"x"]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_closing_cancels_what_has_not_started() -> None:
    release = threading.Event()
    seen: list[int] = []

    def read(number: int) -> bytes:
        seen.append(number)
        assert number == 0 or release.wait(10)
        return b"x"

    with ThreadPoolExecutor(1) as single:
        items = reading(single, read, 100, capacity=20)
        next(items)
        items.close()
        release.set()
    assert len(seen) <= 2
