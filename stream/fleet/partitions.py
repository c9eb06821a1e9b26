"""One partition of the topic of cameras that the group gave to this worker, and how far it is.

    READING -> CLAIMING -> TAKING_OVER -> RUNNING
       ^          |            |            |
       '-------- WAITING <-----'------------'

A partition is read from its beginning to the end that it had. Then the worker writes a claim into
it. The offset of the claim is the epoch of the partition's cameras; it only grows. Once the worker
has read its own claim, and no newer one, it ends what its predecessor left open and starts the
cameras. It waits when it was cut from the broker or saw the claim of another worker.

A running partition is *sure* as of a moment at which its end was asked for, once everything before
that end has been read and holds no newer claim: at that moment nobody else can have run its
cameras.
"""

from __future__ import annotations

import enum
from typing import Any

from stream.fleet.records import (
    CLAIM_KEY,
    CameraRecord,
    ClaimRecord,
    Record,
    Tombstone,
    Unreadable,
)

__all__ = ["Partition", "Phase"]


class Phase(enum.StrEnum):
    """What a worker does with a partition; a label of `cidc_fleet_partitions`."""

    READING = "reading"
    CLAIMING = "claiming"
    TAKING_OVER = "taking_over"
    RUNNING = "running"
    WAITING = "waiting"


class Partition:
    """The records of one partition, and what they mean for this worker. One thread uses it.

    Attributes:
        position: offset of the next record to be read.
        end: offset after the last record when reading began; None while it is not known.
        claim: future of the claim that was sent, and when it was sent (monotonic).
        epoch: offset of this worker's claim; None without one.
        sure_monotonic: when the partition was this worker's for sure.
        wait_until_monotonic, waits_since_monotonic: in the phase WAITING.
        cameras: newest usable record of each camera.
        unreadable: newest records of their keys that cannot be used.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.phase = Phase.READING
        self.position = 0
        self.end: int | None = None
        self.claim: tuple[Any, float] | None = None
        self.epoch: int | None = None
        self.sure_monotonic = float("-inf")
        self.wait_until_monotonic = self.waits_since_monotonic = float("-inf")
        self.cameras: dict[str, CameraRecord] = {}
        self.unreadable: dict[str, Unreadable] = {}
        self._newest_claim: ClaimRecord | None = None
        self._asked: tuple[float, int] | None = None

    def note(self, record: Record) -> CameraRecord | Tombstone | None:
        """Take the next record; later ones replace earlier ones, compacted or not.

        Returns:
            The record if it changes which cameras are to run, or how.
        """
        if isinstance(record, Unreadable) and record.key == CLAIM_KEY:
            record = ClaimRecord("a worker of another release", None, record.place)
        if isinstance(record, ClaimRecord):
            self._newest_claim = record
            return None
        before = self.cameras.pop(record.camera_id, None)
        self.unreadable.pop(record.camera_id, None)
        if isinstance(record, Unreadable):
            self.unreadable[record.camera_id] = record
            return None
        if isinstance(record, CameraRecord):
            self.cameras[record.camera_id] = record
            if before is not None and before.camera == record.camera:
                return None
        return record

    @property
    def is_read(self) -> bool:
        """Whether everything was read that was there when reading began."""
        return self.end is not None and self.position >= self.end

    @property
    def is_behind(self) -> bool:
        """Whether there is more to read before the next step."""
        asked = -1 if self._asked is None else self._asked[1]
        return not self.is_read or self.position < asked or self.position <= (self.epoch or -1)

    @property
    def has_read_claim(self) -> bool:
        """Whether this worker's claim was read."""
        return self.epoch is not None and self.position > self.epoch

    @property
    def rival(self) -> str | None:
        """The worker that has claimed the partition after this one; None if nobody has."""
        newest = self._newest_claim
        if newest is None or self.epoch is None or newest.place.offset <= self.epoch:
            return None
        return newest.worker or "another worker"

    def ask(self, end: int, asked_monotonic: float) -> None:
        """Note which end the partition had at a moment."""
        if self.end is None:
            self.end = end
        self._asked = (asked_monotonic, end)

    def settle(self) -> None:
        """Note that the partition is sure, if everything before the known end was read."""
        if self._asked is not None and self.position >= self._asked[1] and self.rival is None:
            self.sure_monotonic = max(self.sure_monotonic, self._asked[0])
            self._asked = None

    def claimed(self, offset: int, sent_monotonic: float) -> None:
        """Note that the broker has stored this worker's claim."""
        self.epoch = offset
        self.claim = None
        self.sure_monotonic = sent_monotonic
        self._asked = None
        self.phase = Phase.TAKING_OVER

    def wait(self, now: float, seconds: float) -> None:
        """Give the claim up, and try again after a while."""
        self.phase = Phase.WAITING
        self.epoch = None
        self.claim = None
        self.waits_since_monotonic = now
        self.wait_until_monotonic = now + seconds

    def read_again(self) -> None:
        """Begin once more; what was read stays known."""
        self.phase = Phase.READING
        self.end = None
