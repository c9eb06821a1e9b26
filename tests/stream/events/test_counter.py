"""What is counted of the events, and when the newest of a camera was made."""

from __future__ import annotations

import time

from stream.events.announcer import Announcement
from stream.events.counter import EventCounter
from stream.metrics import Metrics
from tests.support.factory import make_event


def test_events_are_counted_and_the_newest_is_dated() -> None:
    metrics = Metrics()
    counter = EventCounter(metrics)
    before = time.time()
    counter.take(Announcement((make_event(1), make_event(2, kind="ended", event=1))))
    counter.take(Announcement((make_event(1, camera="other", action="sit"),)))
    assert counter.counts == {("fall", "started"): 1, ("fall", "ended"): 1, ("sit", "started"): 1}
    assert metrics.by_camera(metrics.events) == {"cam": 2, "other": 1}
    dated = {
        sample.labels["camera"]: sample.value
        for family in metrics.last_event.collect()
        for sample in family.samples
    }
    assert set(dated) == {"cam", "other"}
    assert all(before <= at <= time.time() for at in dated.values())
    metrics.forget("cam", 1)
    assert b'last_event_timestamp_seconds{camera="cam"}' not in metrics.exposition()
