"""What the parts of a worker need of each other; tests put others in their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from stream.fleet.records import CameraRecord, Tombstone
from stream.types import EndReason

__all__ = ["GroupCalls", "PartitionCalls", "PartitionCameras", "Takeover"]


class GroupCalls(Protocol):
    """How this worker is a member of its group."""

    def prepare(self) -> str | None:
        """Connect where that is needed; returns what is missing, in one line, or None."""

    def assigned(self) -> set[int]:
        """Let the group work for a moment; returns the partitions that this worker has."""

    def why_idle(self) -> str | None:
        """Why this worker has no partitions; None if it should have none."""

    def close(self) -> None:
        """Leave the group, so that others take over at once."""


class PartitionCalls(Protocol):
    """How records and claims are read and written."""

    def follow(self, partitions: Collection[int], new: Collection[int]) -> None:
        """Read these partitions from now on, the new ones from their beginning."""

    def records(self) -> Sequence[Any]:
        """Return the next records, those of a partition in order."""

    def position(self, partition: int) -> int:
        """Return the offset of the next record to be read."""

    def ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the offset after the last record of each; raises KafkaError."""

    def claim(self, partition: int) -> Any:
        """Send a claim; its future gives the offset; raises KafkaError."""

    def drop_claims(self) -> None:
        """Make sure that claims that were not acknowledged are not delivered later."""

    def is_member_since(self, monotonic: float) -> bool:
        """Whether the group has confirmed this worker's partitions since a moment."""


class PartitionCameras(Protocol):
    """What starts and stops the cameras of partitions."""

    def start(self, partition: int, epoch: int, records: Sequence[CameraRecord]) -> None:
        """Start all cameras of a partition."""

    def change(self, partition: int, epoch: int, record: CameraRecord | Tombstone) -> None:
        """Start, restart or remove one camera of a partition that runs."""

    def stop(self, partition: int, reason: EndReason) -> int:
        """Stop all cameras of a partition at once; returns how many there were."""

    def retry(self) -> None:
        """Try again to start cameras for which there was no room."""


class Takeover(Protocol):
    """What ends the actions that the earlier workers of partitions left open."""

    def finish(self, epochs: Mapping[int, int]) -> set[int]:
        """End them for these partitions, by their new epochs; returns the partitions done."""
