"""A topic in memory, and what a worker's parts do with it, without threads and without waiting."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from stream.events.kafka import kafka
from stream.fleet.records import CLAIM_KEY, encode_camera, encode_claim


@dataclasses.dataclass(frozen=True)
class FakeRecord:
    """A record as a consumer gives it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


class FakeFuture:
    """What a producer returns; `offset` None: not acknowledged yet."""

    def __init__(self, offset: int | None) -> None:
        self.offset = offset
        self.exception: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was acknowledged or has failed."""
        return self.offset is not None or self.exception is not None

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.exception is not None

    @property
    def value(self) -> Any:
        """What the broker said: itself, with the offset."""
        return self

    def get(self, timeout_seconds: float) -> Any:
        """Return the value; raises KafkaError as a producer's future does."""
        if self.exception is not None:
            raise self.exception
        if self.offset is None:
            raise kafka.errors.KafkaTimeoutError("not acknowledged")
        return self


class FakeTopic:
    """Partitions in memory. While `is_cut`, nothing answers."""

    def __init__(self) -> None:
        self.partitions: dict[int, list[FakeRecord]] = {}
        self.is_cut = False

    def append(
        self,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        """Add a record; returns its offset."""
        log = self.partitions.setdefault(partition, [])
        offset = log[-1].offset + 1 if log else 0
        log.append(FakeRecord(partition, offset, key, value, headers))
        return offset

    def camera(self, partition: int, camera_id: str, **fields: object) -> int:
        """Add a camera's record."""
        key, value = encode_camera(
            {"id": camera_id, "url": f"rtsp://10.0.0.1/{camera_id}"} | fields
        )
        return self.append(partition, key, value)

    def claim(self, partition: int, worker: str) -> int:
        """Add a claim."""
        return self.append(partition, CLAIM_KEY, encode_claim(worker, "2026-01-01T00:00:00Z"))

    def compact(self, partition: int) -> None:
        """Keep only the newest record of each key; offsets stay."""
        newest = {record.key: record.offset for record in self.partitions[partition]}
        kept = [r for r in self.partitions[partition] if newest[r.key] == r.offset]
        self.partitions[partition] = kept

    def end(self, partition: int) -> int:
        """Return the offset after the last record."""
        log = self.partitions.get(partition)
        return log[-1].offset + 1 if log else 0


class FakeCalls:
    """What a worker does with the topic of cameras, as `Group` does it."""

    def __init__(self, topic: FakeTopic, worker: str = "me") -> None:
        self.topic = topic
        self.worker = worker
        self.is_member = True
        self.holds_claims = False  # claims are sent and not acknowledged
        self.waiting_claims: list[tuple[int, FakeFuture]] = []
        self.dropped_claims = 0
        self._positions: dict[int, int] = {}

    def follow(self, partitions: Collection[int], new: Collection[int]) -> None:
        """Read these partitions from now on."""
        self._positions = {
            number: 0 if number in new else self._positions[number] for number in partitions
        }

    def records(self) -> list[FakeRecord]:
        """Return all records that were not read yet."""
        if self.topic.is_cut:
            return []
        found = []
        for number, position in self._positions.items():
            found += [r for r in self.topic.partitions.get(number, ()) if r.offset >= position]
            self._positions[number] = max(position, self.topic.end(number))
        return found

    def position(self, partition: int) -> int:
        """Return the offset of the next record."""
        return self._positions[partition]

    def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the ends."""
        if self.topic.is_cut:
            raise kafka.errors.KafkaTimeoutError("no answer")
        return {number: self.topic.end(number) for number in partitions}

    def claim(self, partition: int) -> FakeFuture:
        """Write a claim."""
        future = FakeFuture(None)
        if self.holds_claims or self.topic.is_cut:
            self.waiting_claims.append((partition, future))
        else:
            future.offset = self.topic.claim(partition, self.worker)
        return future

    def drop_claims(self) -> None:
        """Forget claims that were not acknowledged."""
        self.waiting_claims.clear()
        self.dropped_claims += 1

    def is_member_since(self, monotonic: float) -> bool:
        """Whether the group has confirmed the partitions."""
        return self.is_member and not self.topic.is_cut
