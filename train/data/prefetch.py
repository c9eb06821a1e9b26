"""Items made in a background thread, a few ahead of whoever uses them."""

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
    """Yield the items of a generator that runs in a thread of its own.

    An exception that ends the generator is raised here, after the items made before it. Closing the
    result closes the generator and waits for the thread to end.

    Args:
        make_items: called in the thread; returns the generator to run there.
        capacity: how many finished items may wait.
    """
    channel: Channel[Item] = Channel(capacity)
    errors: list[BaseException] = []

    def produce() -> None:
        try:
            with contextlib.closing(make_items()) as items:
                for item in items:
                    if not channel.put(item):
                        return  # nobody wants more
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
