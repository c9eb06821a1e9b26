"""Events of cameras that workers share: worker, epoch, and sequences that count within an epoch."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from model.checkpoints.weights import ModelSpec
from stream.cameras.config import CameraConfig
from stream.events.announcer import Announcement, Announcer
from stream.events.config import EventConfig, OutboxConfig
from stream.events.consumer import Deduplicator
from stream.events.detector import EventDetector
from stream.events.event import ActionEvent
from stream.events.outbox import Outbox
from stream.events.recovery import recover
from stream.metrics import Metrics
from stream.types import BreakReason, CameraOpened, StreamBreak
from tests.support.factory import make_event
from tests.support.schema import check_event


def of_epoch(epoch: int | None, number: int, kind: str = "started", event: int = 1) -> ActionEvent:
    made = make_event(number, kind=kind, event=event)
    return dataclasses.replace(made, worker=None if epoch is None else "w", epoch=epoch)


def test_worker_and_epoch_are_in_the_json_only_where_workers_share_cameras() -> None:
    with_epoch, without = of_epoch(7, 1).to_json(), of_epoch(None, 1).to_json()
    check_event(with_epoch)
    check_event(without)
    assert '"epoch":7' in with_epoch
    assert "epoch" not in without
    assert "worker" not in without
    assert ActionEvent.from_json(with_epoch) == of_epoch(7, 1)
    assert ActionEvent.from_json(with_epoch) != of_epoch(8, 1)


def test_the_order_is_that_of_epochs_then_of_sequences() -> None:
    events = [of_epoch(12, 1), of_epoch(None, 9), of_epoch(7, 3), of_epoch(7, 2)]
    assert [event.order for event in sorted(events, key=lambda event: event.order)] == [
        (0, 9),
        (7, 2),
        (7, 3),
        (12, 1),
    ]


def test_a_reader_takes_one_end_of_an_action_and_updates_of_each_epoch() -> None:
    reader = Deduplicator()
    assert reader.is_new(of_epoch(7, 1))
    assert reader.is_new(of_epoch(7, 2, "updated"))
    assert not reader.is_new(of_epoch(7, 2, "updated"))
    assert reader.is_new(of_epoch(9, 2, "updated"))
    assert reader.is_new(of_epoch(9, 3, "ended"))
    assert not reader.is_new(of_epoch(7, 3, "ended"))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_sequences_count_within_an_epoch_also_after_a_restart(
    tmp_path: Path, is_damaged: bool
) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([of_epoch(None, number, event=number) for number in (1, 2)])
    outbox.append([of_epoch(7, number, event=number) for number in (1, 2, 3)])
    outbox.append([of_epoch(9, 1, event=20)])
    outbox.remove([1, 2, 3, 4, 5, 6])
    outbox.close()
    if is_damaged:
        recover(path, {}, 0)
    again = Outbox(OutboxConfig(path=path))
    assert again.next_sequence("cam") == 3
    assert [again.next_sequence("cam", epoch) for epoch in (7, 9, 11)] == [4, 2, 1]
    again.close()


def test_a_restart_ends_only_what_never_reached_kafka(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    outbox.append([of_epoch(7, 1, event=1), of_epoch(7, 2, event=2), of_epoch(None, 1, event=3)])
    sent, _, also_sent = (stored.id for stored in outbox.oldest(10))
    outbox.remove([sent, also_sent])
    outbox.close()
    again = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    ended = again.close_open_events()
    assert [(event.epoch, event.sequence, event.reason) for event in ended] == [
        (7, 3, "crash"),
        (None, 2, "crash"),
    ]
    assert again.close_open_events() == []
    again.close()


def test_two_workers_that_see_one_action_make_two_events() -> None:
    found = []
    for epoch in (None, 7, 9):
        detector = EventDetector(
            {"smoothing": 1, "default": {"min_seconds": 0}},
            labels=["background", "fall"],
            camera_id="cam",
            background="background",
            epoch=epoch,
        )
        found += detector.push([0.0, 1.0], pts_end_seconds=5.0, wall_end_seconds=100.0)
    assert [event.epoch for event in found] == [None, 7, 9]
    assert len({event.event_id for event in found}) == 3


def test_the_announcer_counts_anew_in_each_epoch_and_names_the_worker(
    tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    announcer = Announcer(
        tiny_spec,
        events=EventConfig(),
        next_sequence=outbox.next_sequence,
        subscribers=[lambda announcement: store(outbox, announcement)],
        metrics=Metrics(),
        worker="me",
    )
    camera = CameraConfig(id="cam", url="rtsp://10.0.0.1/x")
    for generation, epoch in enumerate((7, 7, 12)):
        announcer.open(CameraOpened(camera, generation, epoch=epoch))
        act(announcer, camera)
        announcer.interrupt(StreamBreak("cam", BreakReason.MOVED, generation))
    events = [stored.event for stored in outbox.oldest(100)]
    assert {event.worker for event in events} == {"me"}
    assert {event.reason for event in events if event.kind == "ended"} == {"moved"}
    counts = {epoch: [e.sequence for e in events if e.epoch == epoch] for epoch in (7, 12)}
    assert counts == {7: [1, 2, 3, 4], 12: [1, 2]}
    outbox.close()


def store(outbox: Outbox, announcement: Announcement) -> None:
    outbox.append(announcement.events)


def act(announcer: Announcer, camera: CameraConfig) -> None:
    """Let an action begin, by the detector's own rule."""
    [view] = camera.views
    detector = announcer._detectors[view]
    labels = len(detector._labels)
    for clip in itertools.count(1):
        events = detector.push(
            [0.0, 1.0] + [0.0] * (labels - 2),
            pts_end_seconds=float(clip),
            wall_end_seconds=100.0 + clip,
        )
        if events:
            announcer._tell(announcer._completed(events))
            return
