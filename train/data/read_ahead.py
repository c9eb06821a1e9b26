"""Reads items in threads before they are needed, and yields them in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

__all__ = ["read_ahead"]

Request = TypeVar("Request")
Item = TypeVar("Item")


def read_ahead(
    read: Callable[[Request], Item],
    requests: Iterable[Request],
    *,
    pool: Executor,
    capacity: int,
    size_of: Callable[[Item], int],
    max_bytes: int,
) -> Generator[Item, None, None]:
    """Yield `read(request)` for each request, in order; the pool's threads call `read`.

    If `read` raises an exception, it is raised here, after all earlier items were yielded. Closing
    the generator cancels what has not started.

    Args:
        capacity: maximum number of requests that are being read or wait to be yielded.
        size_of: returns the bytes of an item.
        max_bytes: nothing further is read while the items that wait have this many bytes. Each
            thread may still finish the item that it is reading.
    """
    left = iter(requests)
    pending: collections.deque[Future[Item]] = collections.deque()

    def fill() -> None:
        while len(pending) < capacity and _finished_bytes(pending, size_of) < max_bytes:
            for request in left:
                pending.append(pool.submit(read, request))
                break
            else:
                return

    try:
        fill()
        while pending:
            item = pending.popleft().result()
            fill()
            yield item
    finally:
        for future in pending:
            future.cancel()


def _finished_bytes(pending: Iterable[Future[Item]], size_of: Callable[[Item], int]) -> int:
    return sum(
        size_of(future.result())
        for future in pending
        if future.done() and not future.cancelled() and future.exception() is None
    )
