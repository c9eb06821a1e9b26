"""Counts the events that a reader skips because a newer version wrote them, by kind."""

from __future__ import annotations

import collections
import logging

from configs import readable

__all__ = ["SkippedKinds"]

_log = logging.getLogger(__name__)
_MAX_KINDS = 20  # others wrote the events: they may name any number of kinds
_MAX_SHOWN = 40


class SkippedKinds:
    """The number of skipped events of each kind that this version does not know.

    The first event of each kind is logged. Beyond 20 kinds, events are counted as `other`.

    Attributes:
        counts: number of skipped events by kind.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def add(self, kind: str) -> None:
        """Count an event of this kind."""
        name = readable(kind[:_MAX_SHOWN])
        if name not in self.counts:
            if len(self.counts) >= _MAX_KINDS:
                name = "other"
            else:
                _log.warning(
                    "skipping events of kind %s, which this version does not know; they are only"
                    " counted",
                    name,
                )
        self.counts[name] += 1

    @property
    def total(self) -> int:
        """Number of skipped events of all kinds."""
        return self.counts.total()

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
