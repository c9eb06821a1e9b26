"""The rolling clip of every camera, in one preallocated buffer on the device.

Letters: S slots, T frames of a clip, H and W space, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import ShapeError

__all__ = ["ClipRing"]


class ClipRing:
    """uint8 `S T H W C`: each slot holds the last T frames of one camera, written round and round,
    never moved.

    Args:
        slots: cameras at once.
        frames: T.
        height, width: of the stored frames, pixels.
        device: where the buffer lives.

    Raises:
        ShapeError: a size is below 1.
    """

    def __init__(
        self,
        slots: int,
        *,
        height: int,
        width: int,
        frames: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        if min(slots, frames, height, width) < 1:
            raise ShapeError(
                f"ClipRing sizes must be at least 1, got slots={slots}, frames={frames},"
                f" height={height}, width={width}"
            )
        self.buffer_STHWC = torch.zeros(
            slots, frames, height, width, 3, dtype=torch.uint8, device=device
        )
        self._frames = frames
        self._written = [0] * slots
        self._free = list(range(slots - 1, -1, -1))

    @property
    def frames(self) -> int:
        """T."""
        return self._frames

    @property
    def slots(self) -> int:
        """S."""
        return len(self._written)

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return len(self._free)

    def latest(self, slot: int) -> Tensor:
        """The newest frame of a slot that has one, as it lies in the ring."""
        return self.buffer_STHWC[slot, (self._written[slot] - 1) % self._frames]

    def __repr__(self) -> str:
        return f"ClipRing({tuple(self.buffer_STHWC.shape)}, {len(self._free)} slots free)"

    def acquire(self) -> int:
        """A free slot, empty.

        Raises:
            ShapeError: all slots are taken.
        """
        if not self._free:
            raise ShapeError(f"all {len(self._written)} slots of the ring are taken")
        slot = self._free.pop()
        self.clear(slot)
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back.

        Raises:
            ShapeError: it is not taken.
        """
        if slot in self._free or not 0 <= slot < self.slots:
            raise ShapeError(f"slot {slot} is not taken")
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Forget a slot's frames: the next clip needs T new ones.

        Raises:
            ShapeError: there is no such slot.
        """
        self._check_slot(slot)
        self._written[slot] = 0

    def push(self, slot: int, frame_HWC: Tensor | NDArray[np.uint8]) -> int:
        """Write the next frame; returns how many frames the slot has had since it was cleared.

        Raises:
            ShapeError: the frame is not uint8 `H W C` of the ring's size, or there is no such
                slot.
        """
        self._check_slot(slot)
        if not isinstance(frame_HWC, Tensor):
            frame_HWC = torch.tensor(np.asarray(frame_HWC))
        expected = self.buffer_STHWC.shape[2:]
        if frame_HWC.shape != expected or frame_HWC.dtype != torch.uint8:
            raise ShapeError(
                f"the ring holds uint8 {tuple(expected)}, got {frame_HWC.dtype}"
                f" {tuple(frame_HWC.shape)}"
            )
        self.buffer_STHWC[slot, self._written[slot] % self._frames] = frame_HWC
        self._written[slot] += 1
        return self._written[slot]

    def places(self, slots: Sequence[int]) -> list[tuple[int, int]]:
        """For each slot the slot itself and where in it the oldest frame lies: what a gather needs.

        Raises:
            ShapeError: there is no such slot, or it has had fewer than T frames.
        """
        for slot in slots:
            self._check_slot(slot)
        short = [slot for slot in slots if self._written[slot] < self._frames]
        if short:
            raise ShapeError(f"slots {short} have fewer than {self._frames} frames")
        return [(slot, self._written[slot] % self._frames) for slot in slots]

    def gather(self, slots: int | Sequence[int]) -> Tensor:
        """The last T frames of each slot, or of one, as they are, oldest first: uint8 `B T H W C`.

        Raises:
            ShapeError: there is no such slot, or it has had fewer than T frames.
        """
        slots = [slots] if isinstance(slots, int) else slots
        heads = torch.tensor([head for _, head in self.places(slots)], dtype=torch.int64)
        order = (heads.unsqueeze(1) + torch.arange(self._frames)) % self._frames
        device = self.buffer_STHWC.device
        return self.buffer_STHWC[
            torch.tensor(slots, dtype=torch.int64, device=device).unsqueeze(1), order.to(device)
        ]

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.slots:
            raise ShapeError(
                f"there is no slot {slot}; they are numbered from 0 to {self.slots - 1}"
            )
