"""When a batch passed the network, for traces."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BatchTimes"]


class BatchTimes(NamedTuple):
    """When a batch was gathered, and when the network started and ended, by the monotonic clock.

    On a GPU a batch is gathered once its copies have been queued there; the network waits for them.
    """

    gathered_monotonic: float
    started_monotonic: float
    ended_monotonic: float
