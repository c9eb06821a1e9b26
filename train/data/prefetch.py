"""Runs a generator in a background thread, which makes a few items in advance."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

from model.channel import Channel

__all__ = ["prefetched"]

Item = TypeVar("Item")


def prefetched(
    make_items: Callable[[], Generator[Item, None, None]], *, capacity: int
) -> Generator[Item, None, None]:
    """Yield the items of a generator that runs in a background thread.

    If the generator raises an exception, it is raised here after all earlier items were yielded.
    Closing the returned generator also closes the generator in the thread, and waits for the thread
    to end.

    Args:
        make_items: function that is called in the thread and returns the generator to run there.
        capacity: maximum number of finished items that wait for the consumer.
    """
    channel: Channel[Item] = Channel(capacity)
    errors: list[BaseException] = []

    def produce() -> None:
        try:
            with contextlib.closing(make_items()) as items:
                for item in items:
                    if not channel.put(item):
                        return  # the consumer has stopped
        except BaseException as error:  # raised again by the consumer
            errors.append(error)
        finally:
            channel.close()

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        yield from channel
        if errors:
            raise errors[0]
    finally:
        channel.cancel()
        thread.join()
