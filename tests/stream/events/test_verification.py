"""Events of kind `verified` in JSON, outboxes and readers; and kinds that readers do not know."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs import DataError, UnknownKindError
from stream.__main__ import main
from stream.console.event_lines import event_line
from stream.events import consumer
from stream.events.config import OutboxConfig
from stream.events.consumer import Deduplicator, SkippedKinds, read_outbox
from stream.events.event import ActionEvent
from stream.events.outbox import Outbox
from stream.events.recovery import recover
from stream.events.verification import Verification
from tests.support.factory import make_event
from tests.support.schema import check_event, check_readable
from train.evaluation.event_metrics import read_started_events

VERIFIED = make_event(3, kind="verified", event=1)


def changed(**fields: object) -> str:
    """The JSON of the event with other fields in `verification`."""
    tree = json.loads(VERIFIED.to_json())
    tree["verification"] |= fields
    return json.dumps(tree)


def test_the_field_is_in_the_json_of_this_kind_only() -> None:
    check_event(VERIFIED.to_json())
    assert ActionEvent.from_json(VERIFIED.to_json()) == VERIFIED
    assert json.loads(VERIFIED.to_json())["verification"] == {
        "answer": "no",
        "reason": "nobody is lying down",
        "model": "vlm",
        "latency_seconds": 1.25,
    }
    assert "verification" not in make_event(1).to_json()
    grown = changed(more={"a": 1})
    check_readable(grown)
    assert ActionEvent.from_json(grown) == VERIFIED
    for kind, verification in (("started", VERIFIED.verification), ("verified", None)):
        with pytest.raises(DataError, match="verification belongs to the kind verified"):
            dataclasses.replace(VERIFIED, kind=kind, verification=verification)


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": "maybe"},
        {"answer": None},
        {"reason": 3},
        {"model": None},
        {"latency_seconds": -1},
        {"latency_seconds": "1"},
        {"latency_seconds": True},
    ],
    ids=str,
)
def test_a_wrong_field_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(DataError):
        ActionEvent.from_json(changed(**fields))
    text = json.dumps(json.loads(VERIFIED.to_json()) | {"verification": {"answer": "yes"}})
    with pytest.raises(DataError):
        ActionEvent.from_json(text)


def test_a_reason_of_others_is_cut_and_harmless_on_a_terminal() -> None:
    event = ActionEvent.from_json(changed(reason="a\x1b[2J\r\n" + "b" * 9000))
    assert event.verification is not None
    assert event.verification.reason == ("a[2J " + "b" * 9000)[:500]
    line = event_line(event)
    assert line.isprintable()
    assert "verified" in line
    assert "no: a[2J bbb" in line
    assert len(line) < 160
    short = Verification(answer="yes", reason="", model="m", latency_seconds=0)
    assert event_line(dataclasses.replace(VERIFIED, verification=short)).endswith(" yes")


def test_a_reader_takes_one_answer_of_an_action() -> None:
    reader = Deduplicator()
    assert reader.is_new(make_event(1))
    assert reader.is_new(VERIFIED)
    assert not reader.is_new(VERIFIED)
    assert reader.is_new(make_event(2, kind="ended", event=1))


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("has_ended", [False, True])
def test_an_answer_neither_opens_nor_ends_an_action(
    tmp_path: Path, has_ended: bool, is_damaged: bool
) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(OutboxConfig(path=path))
    ended = [make_event(2, kind="ended", event=1)] if has_ended else []
    outbox.append([make_event(1), *ended, dataclasses.replace(VERIFIED, sequence=2 + has_ended)])
    outbox.close()
    if is_damaged:
        recover(path, {}, 0)
    again = Outbox(OutboxConfig(path=path))
    closed = again.close_open_events()
    if has_ended:
        assert closed == []
    else:
        assert [(event.kind, event.reason, event.sequence) for event in closed] == [
            ("ended", "crash", 3)
        ]
        check_event(closed[0].to_json())
    assert "verified" in [stored.event.kind for stored in again.oldest(10)]
    assert again.next_sequence("cam") == 4
    again.close()


def of_unknown_kind(path: Path, kinds: list[str]) -> None:
    """Make an outbox of two events of ours, and between them events that a newer version wrote."""
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number) for number in range(1, len(kinds) + 3)])
    outbox.close()
    with sqlite3.connect(path) as database:
        for row, kind in enumerate(kinds, start=2):
            fields = json.loads(make_event(row).to_json()) | {"kind": kind, "ended_at": "soon"}
            database.execute(
                "update events set payload = ? where id = ?", (json.dumps(fields), row)
            )
    database.close()


def test_a_reader_skips_and_counts_events_of_unknown_kinds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "o.db"
    of_unknown_kind(path, ["seen_again", "seen_again", "x\x1b[2J" * 100])
    skipped = SkippedKinds()
    assert [event.sequence for event in read_outbox(path, skipped=skipped)] == [1, 5]
    assert skipped.total == 3
    assert skipped.counts["seen_again"] == 2
    assert caplog.text.count("seen_again") == 1
    assert str(skipped).startswith("2 seen_again, 1 x\\x1b[2J")
    assert len(str(skipped)) < 200
    with pytest.raises(UnknownKindError, match="started, updated, ended, verified") as found:
        ActionEvent.from_json('{"schema": "action-event/1", "kind": "x"}'.replace("x", "y" * 999))
    assert len(str(found.value)) < 400


def test_a_reader_of_a_topic_skips_them_too(caplog: pytest.LogCaptureFixture) -> None:
    fields = json.loads(make_event(1).to_json()) | {"kind": "seen_again"}
    values = [json.dumps(fields).encode()] * 3 + [make_event(2).to_json().encode(), b"{}"]
    skipped = SkippedKinds()
    records = [
        SimpleNamespace(value=value, topic="t", partition=0, offset=offset)
        for offset, value in enumerate(values)
    ]
    found = [consumer._event(record, skipped) for record in records]
    assert found == [None, None, None, make_event(2), None]
    assert skipped.counts == {"seen_again": 3}
    assert caplog.text.count("seen_again") == 1
    assert caplog.text.count("skipped record 4") == 1


def test_a_reader_counts_no_more_than_some_kinds() -> None:
    skipped = SkippedKinds()
    for number in range(1000):
        skipped.add(f"kind {number}")
    assert skipped.total == 1000
    assert len(skipped.counts) == 21
    assert skipped.counts["other"] == 980


def test_the_command_shows_answers_and_says_what_it_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "o.db"
    of_unknown_kind(path, ["later", "later"])
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([dataclasses.replace(VERIFIED, sequence=5)])
    outbox.close()
    assert main(["events", "--outbox", str(path)]) == 0
    shown = capsys.readouterr()
    *_, last = shown.out.splitlines()
    assert "verified" in last
    assert last.endswith("no: nobody is lying down")
    assert "skipped events of kinds that this version does not know: 2 later" in shown.err


def test_evaluation_ignores_answers(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(f"{event.to_json()}\n" for event in (make_event(1), VERIFIED)))
    assert len(read_started_events(file)) == 1
