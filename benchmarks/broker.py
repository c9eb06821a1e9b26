"""Gives a benchmark its broker: one that was named, or the test broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["broker_for"]


@contextlib.contextmanager
def broker_for(named: str | None) -> Iterator[str]:
    """Yield `named`, an address HOST:PORT; without one, start the test broker and yield its own."""
    if named:
        yield named
        return
    from tests.support.broker import running_broker

    with running_broker() as bootstrap:
        yield bootstrap
