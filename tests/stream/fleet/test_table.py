"""The newest record of each key, on compacted and uncompacted topics."""

from __future__ import annotations

import json
import random

from stream.fleet.records import CLAIM_KEY, ClaimRecord, Place, Record, decode_record, encode_claim
from stream.fleet.table import table_of


def record(
    key: str, hop: int | None, partition: int, offset: int, time: int = 0, *, bad: bool = False
) -> Record:
    """Return a decoded record; a tombstone without `hop`."""
    camera = {"id": key, "url": "rtsp://h/1", "hop": "bad" if bad else hop}
    value = json.dumps({"schema": "camera/1", "camera": camera}).encode()
    return decode_record(
        key.encode(), None if hop is None else value, Place(partition, offset, time)
    )


def test_the_table_equals_a_replay_of_the_log_with_and_without_compaction() -> None:
    chance = random.Random(5)
    for _ in range(50):
        log: list[tuple[str, Record]] = []
        replayed: dict[str, int | None] = {}
        for offset in range(60):
            key = f"cam{chance.randrange(9)}"
            hop = chance.choice([None, *range(1, 9)])
            replayed[key] = hop
            log.append((key, record(key, hop, int(key[3:]) % 3, offset)))
        expected = {key: hop for key, hop in replayed.items() if hop is not None}
        whole = [entry for _, entry in log]
        compacted = list(dict(log).values())
        for records in (whole, compacted, chance.sample(whole, len(whole))):
            table = table_of(records)
            assert {key: each.camera.hop for key, each in table.cameras.items()} == expected
            assert table.unreadable == ()


def test_a_bad_record_hides_its_own_camera_only() -> None:
    records = [record("a", 1, 0, 0), record("b", 2, 0, 1), record("a", 3, 0, 2, bad=True)]
    table = table_of(records)
    assert list(table.cameras) == ["b"]
    [bad] = table.unreadable
    assert (bad.camera_id, bad.place.offset) == ("a", 2)
    assert table_of([*records, record("a", 4, 0, 3)]).unreadable == ()
    assert table_of([*records, record("a", None, 0, 3)]).cameras.keys() == {"b"}


def test_an_id_in_two_partitions_counts_once_by_time() -> None:
    records = [record("a", 1, 5, 900, time=10), record("a", 2, 2, 3, time=20)]
    table = table_of(records)
    assert table.cameras["a"].camera.hop == 2
    assert table.places["a"] == {2, 5}


def test_a_tombstone_removes_what_its_own_partition_holds() -> None:
    records = [record("a", 1, 5, 900, time=10), record("a", 2, 2, 3, time=20)]
    moved = [*records, record("a", None, 5, 901, time=30)]
    compacted = [records[1]]  # the tombstone of partition 5 was forgotten, too
    for left in (moved, compacted):
        table = table_of(left)
        assert table.cameras["a"].camera.hop == 2
        assert table.places["a"] == {2}
    assert table_of([*moved, record("a", None, 2, 4, time=5)]).cameras == {}


def test_the_newest_claim_of_each_partition_is_kept_and_is_no_camera() -> None:
    def claim(worker: str, partition: int, offset: int) -> Record:
        return decode_record(CLAIM_KEY, encode_claim(worker, "t"), Place(partition, offset))

    table = table_of([claim("w1", 0, 4), claim("w2", 1, 2), claim("w3", 0, 9)])
    assert table.cameras == {}
    assert table.places == {}
    assert table.claims == {
        0: ClaimRecord("w3", "t", Place(0, 9)),
        1: ClaimRecord("w2", "t", Place(1, 2)),
    }
