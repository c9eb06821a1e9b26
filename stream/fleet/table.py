"""The table of cameras that the records of the topic give."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from stream.fleet.records import (
    CLAIM_KEY,
    CameraRecord,
    ClaimRecord,
    Record,
    Tombstone,
    Unreadable,
)

__all__ = ["CameraTable", "table_of"]


@dataclasses.dataclass(frozen=True)
class CameraTable:
    """The newest record of each key; the same for a topic that was compacted and one that was not.

    A camera whose newest record cannot be read is in `unreadable` only.

    Args:
        cameras: by id.
        unreadable: newest records of their keys that cannot be used.
        claims: newest claim of each partition.
        places: partitions in which an id has a record other than a tombstone.
    """

    cameras: Mapping[str, CameraRecord]
    unreadable: tuple[Unreadable, ...]
    claims: Mapping[int, ClaimRecord]
    places: Mapping[str, frozenset[int]]

    def home(self, camera_id: str) -> int | None:
        """Return the partition of a camera's newest record; None if it has none."""
        if (record := self.cameras.get(camera_id)) is not None:
            return record.place.partition
        return min(self.places.get(camera_id, ()), default=None)


def table_of(records: Iterable[Record]) -> CameraTable:
    """Return the newest record of each key; the records may come in any order.

    In one partition the record with the highest offset is the newest. If an id has records in
    several partitions, because their number was changed or another program chose them, the newest
    by time counts. A tombstone removes what its own partition holds: workers that read one
    partition could not follow another rule, and a compacted topic forgets tombstones.
    """
    newest: dict[tuple[int, str], Record] = {}
    for record in records:
        at = (record.place.partition, _key(record))
        before = newest.get(at)
        if before is None or record.place.offset >= before.place.offset:
            newest[at] = record
    chosen: dict[str, Record] = {}
    places: dict[str, set[int]] = {}
    claims: dict[int, ClaimRecord] = {}
    for (partition, key), record in newest.items():
        if isinstance(record, ClaimRecord):
            claims[partition] = record
            continue
        if isinstance(record, Tombstone):
            continue
        places.setdefault(key, set()).add(partition)
        if key not in chosen or _time(record) > _time(chosen[key]):
            chosen[key] = record
    return CameraTable(
        {key: record for key, record in chosen.items() if isinstance(record, CameraRecord)},
        tuple(record for record in chosen.values() if isinstance(record, Unreadable)),
        claims,
        {key: frozenset(partitions) for key, partitions in places.items()},
    )


def _time(record: Record) -> tuple[int, int]:
    return record.place.timestamp_ms, record.place.partition


def _key(record: Record) -> str:
    if isinstance(record, ClaimRecord):
        return CLAIM_KEY.decode()
    if isinstance(record, Unreadable):
        return record.key.decode(errors="backslashreplace")
    return record.camera_id
