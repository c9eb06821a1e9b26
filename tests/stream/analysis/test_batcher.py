"""Clips gathered into batches."""

from stream.analysis.batcher import Batcher
from stream.types import ClipRef, View
from tests.support.waiting import until


def test_a_batch_goes_when_full_or_late() -> None:
    batch = Batcher(max_batch=2, deadline_seconds=0.05)
    ref = ClipRef(View("a"), 0.0, 0.0, 0.0)
    assert not batch.is_due()
    assert batch.seconds_left() == float("inf")
    batch.add(4, ref)
    assert batch.holds(4)
    assert not batch.is_due()
    assert until(batch.is_due, 5)
    assert [slot for slot, _ in batch.take()] == [4]
    assert not batch.holds(4)
    batch.add(1, ref)
    batch.add(2, ref)
    assert batch.is_due()
