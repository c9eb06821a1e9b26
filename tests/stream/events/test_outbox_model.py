"""The outbox with several sinks, compared step by step with a model that is a few dictionaries."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import random
import sqlite3
from pathlib import Path

import pytest

from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters
from stream.events.recovery import recover
from stream.events.sink_registry import OutboxSink
from stream.sinks.config import EventFilter
from tests.support.factory import make_event

MAX_EVENTS = 12
CAMERAS = ("a", "b", "c")
NAMES = ("kafka", "hook", "page", "log")


@dataclasses.dataclass
class Model:
    """What each sink has still to take, oldest first; `kept` is what no sink waits for."""

    sinks: dict[str, OutboxSink] = dataclasses.field(default_factory=dict)
    waiting: dict[str, list[ActionEvent]] = dataclasses.field(default_factory=dict)
    kept: list[ActionEvent] = dataclasses.field(default_factory=list)
    lost: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )

    def configure(self, sinks: list[OutboxSink]) -> None:
        names = {sink.name for sink in sinks}
        for name in list(self.waiting.keys() - names):
            left = self.waiting.pop(name)
            if name == "kafka" and not sinks:
                self.kept = left
        for name in names - self.waiting.keys():
            self.waiting[name] = []
            if name == "kafka":
                self.waiting[name], self.kept = self.kept, []
        self.sinks = {sink.name: sink for sink in sinks}

    def append(self, events: list[ActionEvent]) -> None:
        if not self.sinks:
            self.kept = self._bounded("", [*self.kept, *events], MAX_EVENTS)
        for name, sink in self.sinks.items():
            new = [*self.waiting[name], *(event for event in events if sink.filter.takes(event))]
            self.waiting[name] = self._bounded(name, new, sink.max_lag_events or MAX_EVENTS)

    def _bounded(self, name: str, events: list[ActionEvent], limit: int) -> list[ActionEvent]:
        while len(events) > limit:
            updates = [event for event in events if event.kind == "updated"]
            victim = (updates or events)[0]
            events = [event for event in events if event is not victim]
            self.lost[name, victim.kind] += 1
        return events

    def total(self) -> int:
        stored = {
            (event.camera_id, event.sequence)
            for events in (*self.waiting.values(), self.kept)
            for event in events
        }
        return len(stored)


class Run:
    """An outbox and its model, and what each sink has taken of both."""

    def __init__(self, path: Path, dice: random.Random) -> None:
        self.path = path
        self.dice = dice
        self.model = Model()
        self.lost: collections.Counter[tuple[str, str]] = collections.Counter()
        self.numbers = dict.fromkeys(CAMERAS, 0)
        self.dead: list[tuple[str, str]] = []
        self.outbox = self.opened([])

    def opened(self, sinks: list[OutboxSink]) -> Outbox:
        def lose(sink: str, kind: str) -> None:
            self.lost[sink, kind] += 1

        config = OutboxConfig(path=self.path, max_events=MAX_EVENTS)
        return Outbox(config, on_lost=lose, sinks=sinks)

    def append(self) -> None:
        events = []
        for _ in range(self.dice.randrange(1, 8)):
            camera = self.dice.choice(CAMERAS)
            self.numbers[camera] += 1
            kind = self.dice.choice(("started", "updated", "updated", "ended"))
            action = self.dice.choice(("fall", "jump"))
            made = make_event(self.numbers[camera], camera=camera, kind=kind, action=action)
            trace = (
                f"00-{self.numbers[camera]:032x}-{1:016x}-01" if self.dice.random() < 0.5 else None
            )
            events.append(dataclasses.replace(made, traceparent=trace))
        self.outbox.append(events)
        self.model.append(events)

    def take(self) -> None:
        """A sink takes some of its next events, not always the first ones, and not always once."""
        if not self.model.waiting:
            return
        name = self.dice.choice(sorted(self.model.waiting))
        stored = self.outbox.of(name).oldest(6)
        taken = [item for item in stored if self.dice.random() < 0.7]
        for _ in range(self.dice.choice((1, 1, 2))):
            self.outbox.of(name).remove([item.id for item in taken])
        gone = [item.event for item in taken]
        self.model.waiting[name] = [
            event for event in self.model.waiting[name] if event not in gone
        ]

    def refuse(self) -> None:
        waiting = [name for name, events in self.model.waiting.items() if events]
        if not waiting:
            return
        name = self.dice.choice(sorted(waiting))
        (stored,) = self.outbox.of(name).oldest(1)
        self.outbox.of(name).move_to_dead_letters(stored.id, "refused")
        self.model.waiting[name] = self.model.waiting[name][1:]
        self.dead.append((name, stored.event.to_json()))

    def restart(self, *, damaged: bool = False) -> None:
        """Close and open again, with other sinks or the same."""
        sinks = list(self.model.sinks.values())
        if self.dice.random() < 0.5:
            likely = self.dice.choice((0, 0.6, 0.9))
            sinks = [self._sink(name) for name in NAMES if self.dice.random() < likely]
            self.dice.shuffle(sinks)
        # As a process that is killed leaves them: the database and its write-ahead log.
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        left = {file: file.read_bytes() for file in files if file.exists()}
        self.outbox.close()
        if self.dice.random() < 0.5:
            for file, content in left.items():
                file.write_bytes(content)
        if damaged:
            recover(self.path, {}, 0)
        self.outbox = self.opened(sinks)
        self.model.configure(sinks)

    def _sink(self, name: str) -> OutboxSink:
        limits = EventFilter(
            cameras=self.dice.choice(((), ("a",), ("a", "b"))),
            actions=self.dice.choice(((), ("fall",))),
            kinds=self.dice.choice(((), ("started", "ended"))),
        )
        return OutboxSink(name, limits, self.dice.choice((None, 3, 8)))

    def check(self) -> None:
        for name, expected in self.model.waiting.items():
            view = self.outbox.of(name)
            found = [item.event for item in view.oldest(1000)]
            assert found == expected, name
            assert [each.traceparent for each in found] == [each.traceparent for each in expected]
            assert len(view) == len(expected)
        assert len(self.outbox) == self.model.total()
        if "kafka" not in self.model.waiting:
            assert [item.event for item in self.outbox.oldest(1000)] == self.model.kept
        self.model.lost = collections.Counter(
            {key: count for key, count in self.model.lost.items() if key[0]}
        )
        assert self.lost == self.model.lost
        for camera, number in self.numbers.items():
            assert self.outbox.next_sequence(camera) == number + 1


@pytest.mark.parametrize("seed", range(12))
def test_no_event_is_lost_or_goes_to_the_wrong_sink(tmp_path: Path, seed: int) -> None:
    run = Run(tmp_path / "o.db", random.Random(seed))
    for _ in range(60):
        step = run.dice.random()
        if step < 0.45:
            run.append()
        elif step < 0.8:
            run.take()
        elif step < 0.86:
            run.refuse()
        elif step < 0.97:
            run.restart()
        else:
            run.restart(damaged=True)
        run.check()
    run.outbox.close()
    letters = [(letter.sink, letter.payload) for letter in read_dead_letters(tmp_path / "o.db")]
    assert sorted(letters) == sorted(run.dead)
    with contextlib.closing(sqlite3.connect(tmp_path / "o.db")) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_the_model_loses_and_refuses_in_these_runs(tmp_path: Path) -> None:
    """The runs above reach what they are for: losses, dead letters, sinks that come and go."""
    run = Run(tmp_path / "o.db", random.Random(1))
    seen = set()
    for _ in range(200):
        run.dice.choice((run.append, run.append, run.take, run.refuse, run.restart))()
        run.check()
        seen.add(frozenset(run.model.waiting))
    run.outbox.close()
    assert len(seen) > 5
    assert run.dead
    assert {name for name, _ in run.lost} == set(NAMES)
