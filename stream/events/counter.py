"""The event counter counts events by action and kind, and notes when the newest was made."""

from __future__ import annotations

import collections

from stream.events.announcer import Announcement
from stream.metrics import Metrics

__all__ = ["EventCounter"]


class EventCounter:
    """Subscribes to announcements, counts their events and notes their time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()

    def take(self, announcement: Announcement) -> None:
        """Count the events of an announcement."""
        for event in announcement.events:
            self._metrics.events.labels(event.camera_id, event.action, event.kind).inc()
            self._metrics.last_event.labels(event.camera_id).set_to_current_time()
            self.counts[event.action, event.kind] += 1
