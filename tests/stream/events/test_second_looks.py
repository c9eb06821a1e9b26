"""Answers of second looks become events: numbered in order, and only while the camera is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.checkpoints.weights import ModelSpec
from stream.cameras.config import CameraConfig, View
from stream.events.announcer import Announcement, Announcer
from stream.events.config import EventConfig, OutboxConfig
from stream.events.event import ActionEvent
from stream.events.outbox import Outbox
from stream.events.second_looks import SecondLooks
from stream.events.verification import Verification
from stream.metrics import Metrics
from stream.types import BreakReason, CameraOpened, ClipRef, ClipResults, StreamBreak
from tests.support.schema import check_event

NO = Verification(answer="no", reason="x", model="m", latency_seconds=1.0)
CAMERA = CameraConfig(id="cam", url="rtsp://10.0.0.1/x")


class Looker:
    """Keeps what it is offered; a test answers."""

    def __init__(self) -> None:
        self.offered: list[tuple[ActionEvent, Tensor, object]] = []
        self.waiting: list[tuple[ActionEvent, object, Verification]] = []
        self.counted: list[str] = []
        self.fails = False

    def offer(self, event: ActionEvent, clip_CTHW: Tensor, owner: object) -> None:
        if self.fails:
            raise RuntimeError("no memory")
        self.offered.append((event, clip_CTHW, owner))

    def answer(self, place: int = -1) -> None:
        """Answer a look that was offered."""
        event, _, owner = self.offered.pop(place)
        self.waiting.append((event, owner, NO))

    def answers(self) -> list[tuple[ActionEvent, object, Verification]]:
        found, self.waiting = self.waiting, []
        return found

    def count_answer(self, verification: Verification) -> None:
        self.counted.append(verification.answer)

    def count_failure(self, reason: str) -> None:
        self.counted.append(reason)


class Rig:
    """An announcer that stores events in an outbox, with a looker."""

    def __init__(self, spec: ModelSpec, path: Path) -> None:
        self.outbox = Outbox(OutboxConfig(path=path))
        self.looker = Looker()
        self.spec = spec
        self.batches = 0
        self.stored_before: list[int] = []
        self.announcer = Announcer(
            spec,
            events=EventConfig(smoothing=1, default={"cooldown_seconds": 0.0}),  # type: ignore[arg-type]
            next_sequence=self.outbox.next_sequence,
            subscribers=[self._store],
            metrics=Metrics(),
            worker="me",
            looks=SecondLooks(self.looker),
        )

    def _store(self, announcement: Announcement) -> None:
        # A started event must be passed on before it is offered for a look.
        new = {e.event_id for e in announcement.events if e.kind == "started"}
        assert not any(event.event_id in new for event, _, _ in self.looker.offered)
        self.outbox.append(announcement.events)

    def open(self, generation: int = 1, epoch: int | None = None) -> None:
        self.announcer.open(CameraOpened(CAMERA, generation, epoch=epoch))

    def see(self, label: int) -> None:
        """Push a clip that shows the action of this number."""
        self.batches += 1
        clips = torch.full((2, 3, 4, 8, 8), float(self.batches))
        clips[0] = -1.0  # of another camera
        row = [0.0] * len(self.spec.labels)
        row[label] = 1.0
        quiet = [1.0, *[0.0] * (len(row) - 1)]
        moment = float(self.batches)
        self.announcer.open(CameraOpened(CAMERA.model_copy(update={"id": "other"}), 1))
        refs = tuple(
            ClipRef(View(name), moment, moment, 1.7e9 + moment) for name in ("other", "cam")
        )
        self.announcer.push(ClipResults(clips, refs, [quiet, row]))

    def events(self) -> list[ActionEvent]:
        """The events of the camera, which must be valid and numbered without a gap."""
        events = [stored.event for stored in self.outbox.oldest(1000)]
        for event in events:
            check_event(event.to_json())
        for epoch in {event.epoch for event in events}:
            numbers = [event.sequence for event in events if event.epoch == epoch]
            assert numbers == list(range(1, len(numbers) + 1))
        return events


@pytest.fixture
def rig(tiny_spec: ModelSpec, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tiny_spec, tmp_path / "o.db")
    yield made
    made.outbox.close()


def test_an_answer_becomes_an_event_also_after_the_end_of_its_action(rig: Rig) -> None:
    rig.open()
    rig.see(1)
    rig.see(1)  # goes on: no second look
    [(started, clip, _)] = rig.looker.offered
    assert torch.equal(clip, torch.ones(3, 4, 8, 8))  # its own clip, of the moment of the start
    rig.see(0)
    rig.announcer.tick()
    assert [event.kind for event in rig.events()] == ["started", "ended"]
    rig.looker.answer()
    rig.announcer.tick()
    rig.announcer.tick()
    rig.see(2)
    first, ended, verified, second = rig.events()
    assert [event.kind for event in (ended, verified, second)] == ["ended", "verified", "started"]
    assert first.event_id == ended.event_id == verified.event_id == started.event_id
    assert second.event_id != first.event_id
    assert (verified.verification, verified.worker, verified.reason) == (NO, "me", None)
    same = ("action", "confidence", "started_at", "pts_start_seconds", "top_k", "model", "region")
    assert all(getattr(verified, name) == getattr(started, name) for name in same)
    assert rig.looker.counted == ["no"]
    assert rig.outbox.close_open_events() != []  # the second action is open, the first is not
    assert rig.outbox.close_open_events() == []


def test_answers_of_several_actions_are_numbered_in_the_order_of_storing(rig: Rig) -> None:
    rig.open()
    for label in (1, 2, 3):
        rig.see(label)
    for place in (2, 0, 0):
        rig.looker.answer(place)
    rig.see(0)
    rig.announcer.tick()
    kinds = [event.kind for event in rig.events()]
    assert kinds.count("verified") == 3


@pytest.mark.parametrize("reason", [BreakReason.ENDED, BreakReason.PAUSED, BreakReason.CHANGED])
def test_a_camera_that_ended_or_is_paused_still_gets_its_answers(
    rig: Rig, reason: BreakReason
) -> None:
    rig.open()
    rig.see(1)
    rig.see(2)
    rig.announcer.interrupt(StreamBreak("cam", reason, 1))
    rig.looker.answer()
    rig.looker.answer()
    rig.announcer.tick()
    assert [event.kind for event in rig.events()][-2:] == ["verified", "verified"]
    rig.open(2)
    rig.see(1)
    assert rig.events()[-1].kind == "started"


@pytest.mark.parametrize("reason", [BreakReason.REMOVED, BreakReason.MOVED])
@pytest.mark.parametrize("comes_back", ["never", "before the answer"])
def test_an_answer_for_a_camera_that_left_is_dropped_and_counted(
    rig: Rig, reason: BreakReason, comes_back: str
) -> None:
    rig.open(1, epoch=7)
    rig.see(1)
    rig.announcer.interrupt(StreamBreak("cam", reason, 1))
    if comes_back != "never":
        rig.open(2, epoch=7)
    rig.looker.answer()
    rig.announcer.tick()
    assert [event.kind for event in rig.events()] == ["started", "ended"]
    assert rig.looker.counted == ["camera_gone"]


def test_an_answer_of_an_earlier_epoch_is_dropped(rig: Rig) -> None:
    rig.open(1, epoch=7)
    rig.see(1)
    rig.announcer.interrupt(StreamBreak("cam", BreakReason.CHANGED, 1))
    rig.open(2, epoch=9)
    rig.see(1)
    rig.looker.answer(0)
    rig.looker.answer(0)
    rig.announcer.tick()
    assert [(event.epoch, event.kind) for event in rig.events()] == [
        (7, "started"),
        (7, "ended"),
        (9, "started"),
        (9, "verified"),
    ]
    assert rig.looker.counted == ["camera_gone", "no"]


def test_a_look_that_fails_costs_nothing_else(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.looker.fails = True
    rig.open()
    rig.see(1)
    rig.see(2)
    assert [event.kind for event in rig.events()] == ["started", "ended", "started"]
    assert rig.looker.counted == ["failed", "failed"]
    assert caplog.text.count("could not be offered") == 1
