"""The sinks of a pipeline: names, threads, gauges, health, summary and the end of a run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from configs import ConfigError, check_tree
from stream import assembly
from stream.config import StreamConfig
from stream.console.summary import summary_lines
from stream.events.event import ActionEvent, StoredEvent
from stream.metrics import Metrics
from stream.pipeline import Pipeline
from stream.serve.health import health_report
from stream.sink_assembly import Sinks
from stream.sinks.config import SinkConfig, longest_drain
from stream.sinks.delivery import Undelivered
from tests.support.broker import free_port
from tests.support.factory import make_event
from tests.support.pipelines import config_for
from tests.support.waiting import until


class WithSinks(StreamConfig):
    hooks: tuple[SinkConfig, ...] = ()


class Receiver:
    """Takes everything, or nothing while `is_away`."""

    def __init__(self, name: str, *, is_away: bool = False) -> None:
        self.name = name
        self.address = f"https://{name}.example"
        self.max_batch = 10
        self.is_away = is_away
        self.taken: list[ActionEvent] = []
        self.closed = 0

    def deliver(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        if self.is_away:
            raise Undelivered("timeout", "no answer")
        self.taken += [stored.event for stored in events]

    def close(self) -> None:
        self.closed += 1


def config_with(hooks: Sequence[dict[str, object]], **sections: object) -> WithSinks:
    tree = {"cameras": [{"id": "a", "url": "/dev/null"}], "hooks": hooks, **sections}
    return check_tree(tree, WithSinks, name="configuration")


def test_names_of_sinks_are_their_own() -> None:
    assert len(config_with([{"name": "a"}, {"name": "b"}]).hooks) == 2
    for hooks, says in (
        ([{"name": "a"}, {"name": "a"}], "the sink name 'a' is used more than once"),
        ([{"name": "kafka"}], "the sink name 'kafka' is used more than once"),
        ([{"name": "a b"}], "name"),
        ([{"name": f"s{number}"} for number in range(32)], "there are 33 sinks with Kafka"),
    ):
        with pytest.raises(ConfigError, match=says):
            config_with(hooks)


def test_the_longest_time_of_all_sinks_counts_at_the_end() -> None:
    assert longest_drain(config_with([{"name": "a"}])) == 60
    assert longest_drain(config_with([{"name": "a", "drain_seconds": 90}])) == 90


def test_each_sink_is_seen_and_ends_in_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = [
        {"name": "fine", "filter": {"kinds": ["ended"]}},
        {"name": "away", "drain_seconds": 0.2},
        {"name": "away-too", "drain_seconds": 0.2, "max_lag_events": 3},
    ]
    config = config_with(hooks, outbox={"path": str(tmp_path / "o.db")})
    receivers = [Receiver(hook.name, is_away="away" in hook.name) for hook in config.hooks]
    monkeypatch.setattr(
        "stream.sink_assembly.make_deliveries",
        lambda config: list(zip(config.hooks, receivers, strict=True)),
    )
    metrics = Metrics()
    acknowledged: list[tuple[str, int]] = []
    with contextlib.ExitStack() as stack:
        sinks = Sinks(config, metrics)
        stack.callback(sinks.close)
        outbox = assembly.open_outbox(config, metrics, stack, sinks.in_outbox)
        kinds = ("started", "updated", "ended", "started", "ended")
        outbox.append([make_event(n, kind=kind) for n, kind in enumerate(kinds, 1)])
        sinks.start(
            outbox,
            outbox.of("kafka"),
            stack,
            lambda sink, events: acknowledged.extend((sink, event.sequence) for event in events),
        )
        until(lambda: [event.sequence for event in receivers[0].taken] == [3, 5])
        until(lambda: all(sink["problem"] for sink in sinks.report()[1:]))
        until(lambda: outbox.waiting("fine") == 0)
        report = sinks.report()
        assert report[0] == {
            "sink": "fine",
            "address": "https://fine.example",
            "problem": None,
            "waiting": 0,
        }
        assert [(sink["problem"], sink["waiting"]) for sink in report[1:]] == [
            ("no answer", 5),
            ("no answer", 3),
        ]
        health = health_report({"live": lambda: None}, (), load={}, sinks=report)
        assert (health["status"], health["sinks"]) == ("degraded", report)
        sinks.refresh()
        text = metrics.exposition().decode()
        for line in (
            'cidc_sink_up{sink="fine"} 1.0',
            'cidc_sink_up{sink="away"} 0.0',
            'cidc_sink_waiting_events{sink="away"} 5.0',
            'cidc_sink_events_total{sink="fine"} 2.0',
            'cidc_sink_lost_events_total{kind="updated",sink="away-too"} 1.0',
            'cidc_sink_lost_events_total{kind="started",sink="away-too"} 1.0',
            'cidc_sink_lost_events_total{kind="ended",sink="away"} 0.0',
            'cidc_sink_oldest_event_seconds{sink="fine"} 0.0',
        ):
            assert line in text
        started_at = time.monotonic()
        sinks.send_last_events()
        assert time.monotonic() - started_at < 3
        assert sinks.summary()["away"]["waiting"] == 5
        assert sinks.summary()["fine"]["events"] == 2
        assert sinks.summary()["away-too"]["lost"] == 2
    assert "5 events could not be delivered to sink away at https://away.example" in caplog.text
    assert "sink fine" not in caplog.text
    assert acknowledged == [("fine", 3), ("fine", 5)]
    assert [receiver.closed for receiver in receivers] == [1, 1, 1]


def test_deliveries_are_closed_if_the_pipeline_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver("a")
    monkeypatch.setattr(
        "stream.sink_assembly.make_deliveries", lambda config: [(SinkConfig(name="a"), receiver)]
    )
    Sinks(config_with([{"name": "a"}]), Metrics()).close()
    assert receiver.closed == 1


def test_a_pipeline_gives_its_events_to_all_sinks(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka is away: the other sink has everything, and the outbox keeps it for Kafka."""
    receiver = Receiver("hook")
    monkeypatch.setattr(
        "stream.sink_assembly.make_deliveries",
        lambda config: [(SinkConfig(name="hook"), receiver)],
    )
    sections = {
        "events": {"smoothing": 1, "default": {"enter": 0.05, "exit": 0.0}},
        "kafka": {"bootstrap": [f"127.0.0.1:{free_port()}"], "drain_seconds": 0.2},
    }
    urls = {"a": scenes / "clips/fall/0000.mp4"}
    with Pipeline(config_for(tiny_weights, tmp_path, urls, **sections)) as pipeline:
        summary = pipeline.run(threading.Event())
        assert {each["sink"] for each in pipeline._sinks.report()} == {"kafka", "hook"}
    made = sum(count for kinds in summary["events"].values() for count in kinds.values())
    assert made == len(receiver.taken) == summary["sinks"]["hook"]["events"] > 0
    assert summary["sinks"]["kafka"]["waiting"] == summary["outbox_left"] == made
    assert [event.sequence for event in receiver.taken] == list(range(1, made + 1))
    assert f"sink hook: {made} events taken" in summary_lines(summary)
