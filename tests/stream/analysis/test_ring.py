"""The clip ring against a deque."""

import collections

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs import ShapeError
from stream import ClipRing


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=80))
def test_a_ring_holds_what_a_deque_would(steps: list[tuple[int, bool]]) -> None:
    ring = ClipRing(3, height=1, width=2, frames=4)
    slots = [ring.acquire() for _ in range(3)]
    expected = {slot: collections.deque(maxlen=4) for slot in slots}
    for value, (slot, clear) in enumerate(steps):
        if clear:
            ring.clear(slot)
            expected[slot].clear()
        ring.push(slot, torch.full((1, 2, 3), value % 251, dtype=torch.uint8))
        expected[slot].append(value % 251)
        full = [slot for slot in slots if len(expected[slot]) == 4]
        gathered = ring.gather(full)[:, :, 0, 0, 0].tolist() if full else []
        assert gathered == [list(expected[slot]) for slot in full]


def test_slots_come_back_empty() -> None:
    ring = ClipRing(1, height=1, width=1, frames=2)
    slot = ring.acquire()
    with pytest.raises(ShapeError, match="all 1 slots"):
        ring.acquire()
    for _ in range(2):
        ring.push(slot, torch.ones(1, 1, 3, dtype=torch.uint8))
    ring.release(slot)
    with pytest.raises(ShapeError, match="not taken"):
        ring.release(slot)
    with pytest.raises(ShapeError, match="fewer than 2"):
        ring.gather([ring.acquire()])


def test_a_wrong_frame_or_slot_is_named_in_the_error() -> None:
    ring = ClipRing(1, height=2, width=3)
    for picture in (torch.zeros(3, 2, 3, dtype=torch.uint8), torch.zeros(2, 3, 3)):
        with pytest.raises(ShapeError, match=r"the ring holds uint8 \(2, 3, 3\)"):
            ring.push(0, picture)
    for slot in (-1, 1):
        with pytest.raises(ShapeError, match=f"no slot {slot}"):
            ring.push(slot, torch.zeros(2, 3, 3, dtype=torch.uint8))
        with pytest.raises(ShapeError, match=f"no slot {slot}"):
            ring.gather(slot)


def test_frames_can_be_numpy_arrays() -> None:
    ring = ClipRing(2, height=2, width=3, frames=2)
    slot = ring.acquire()
    for value in (7, 8):
        ring.push(slot, np.full((2, 3, 3), value, np.uint8))
    assert ring.gather(slot).shape == (1, 2, 2, 3, 3)
    assert ring.gather([slot])[0, :, 0, 0, 0].tolist() == [7, 8]
    assert ring.slots == 2
