"""Kafka, MQTT and a webhook under load, each away in turn while the others go on.

CIDC_SINK_OUTAGE_SECONDS=60 makes every outage a minute, with the pauses of a real run.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.outbox import Outbox
from stream.events.publisher import Publisher
from stream.events.sink_registry import OutboxSink
from stream.sink_metrics import SinkMetrics
from stream.sinks.config import SinkConfig
from stream.sinks.delivery import Delivery
from stream.sinks.mqtt import MqttDelivery
from stream.sinks.mqtt_config import MqttConfig
from stream.sinks.webhook import WebhookDelivery
from stream.sinks.webhook_config import WebhookConfig
from stream.sinks.worker import SinkTimings, SinkWorker
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.factory import make_event
from tests.support.mosquitto import Mosquitto, Subscriber, mosquitto, subscriber
from tests.support.topics import all_records
from tests.support.waiting import until
from tests.support.webhook_process import WebhookProcess

OUTAGE_SECONDS = float(os.environ.get("CIDC_SINK_OUTAGE_SECONDS", "2"))
QUICK = SinkTimings(backoff_initial_seconds=0.1, backoff_max_seconds=0.5)
TIMINGS = QUICK if OUTAGE_SECONDS < 30 else SinkTimings()
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
CAMERAS = ("door", "hall", "yard", "gate")
KINDS = ("started", "updated", "ended")
PAUSE_SECONDS = 0.02
MAX_LAG = 150


class Load:
    """Events of all cameras, stored at a steady pace until it is told to end."""

    def __init__(self, outbox: Outbox) -> None:
        self.made = 0
        self._outbox = outbox
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count(1):
            kind = KINDS[number % 3]
            self._outbox.append(
                [make_event(number, camera=each, kind=kind, event=number // 3) for each in CAMERAS]
            )
            self.made = number
            if self._stop.wait(PAUSE_SECONDS):
                return

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


def in_order(events: list[dict[str, Any]], made: int) -> bool:
    """Whether each camera's events are complete and in order, without repetitions."""
    for camera in CAMERAS:
        seen = [event["sequence"] for event in events if event["camera_id"] == camera]
        if list(dict.fromkeys(seen)) != list(range(1, made + 1)):
            return False
    return True


@pytest.fixture
def broker() -> Iterator[Proxy]:
    """The way to a Kafka broker. It keeps records in memory: it is cut off, not killed."""
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)
        yield proxy
        proxy.cut()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, "max_queued_messages 0") as running:
        yield running


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300 + 5 * OUTAGE_SECONDS)
def test_each_sink_in_turn_is_away_and_none_loses_an_event(
    tmp_path: Path, broker: Proxy, server: Mosquitto
) -> None:
    hook = WebhookProcess(tmp_path / "requests", SECRET)
    mqtt_way = Proxy(server.port, free_port())
    alarm = webhook("alarm", hook.port, max_batch_events=20)
    home = MqttConfig.model_validate({"name": "home", "url": f"mqtt://127.0.0.1:{mqtt_way.port}"})
    dead = webhook("dead", free_port())
    deliveries: list[tuple[SinkConfig, Delivery]] = [
        (alarm, WebhookDelivery(alarm)),
        (home, MqttDelivery(home, client_id="me")),
        (dead, WebhookDelivery(dead)),
    ]
    kafka = KafkaConfig(bootstrap=(f"127.0.0.1:{broker.port}",), topic="all")
    lost = Counter[str]()
    outbox = Outbox(
        OutboxConfig(path=tmp_path / "o.db"),
        on_lost=lambda sink, kind: lost.update([sink]),
        sinks=[
            OutboxSink("kafka"),
            OutboxSink("alarm"),
            OutboxSink("home"),
            OutboxSink("dead", max_lag_events=MAX_LAG),
        ],
    )
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry)
    workers = [
        SinkWorker(config, each, outbox.of(each.name), metrics.of(each.name), timings=TIMINGS)
        for config, each in deliveries
    ]
    publisher = Publisher(kafka, outbox.of("kafka"))
    publisher.start()
    for worker in workers:
        worker.start()

    def kill_mqtt() -> None:
        mqtt_way.cut()
        server.kill()

    def start_mqtt() -> None:
        server.start()
        assert reader.is_ready()  # what is published while no one reads is kept by no one
        mqtt_way.restore()

    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "alarm": (hook.kill, hook.start),
        "home": (kill_mqtt, start_mqtt),
        "kafka": (broker.cut, broker.restore),
    }
    with subscriber(server.port, "cidc/events/#") as reader:
        load = Load(outbox)
        assert until(lambda: load.made > 20 and all(outbox.waiting(each) < 50 for each in ways), 20)
        for away, (kill, restart) in ways.items():
            kill()
            time.sleep(OUTAGE_SECONDS)
            waiting = {each: outbox.waiting(each) for each in ways}
            print(f"{away} away for {OUTAGE_SECONDS:g} s: waiting {waiting}")
            restart()
            restarted = time.monotonic()
            assert waiting[away] > OUTAGE_SECONDS / PAUSE_SECONDS  # they really had to wait
            assert all(count < 100 for each, count in waiting.items() if each != away)
            assert until(lambda name=away: outbox.waiting(name) < 50, 90)  # type: ignore[misc]
            print(f"{away} has caught up {time.monotonic() - restarted:.1f} s after its return")
        load.end()
        assert until(lambda: all(outbox.waiting(each) == 0 for each in ways), 30)
        assert until(
            lambda: (
                len({(e["camera_id"], e["sequence"]) for e in reader.events()})
                == len(CAMERAS) * load.made
            )
        )
        check(load.made, hook, reader, broker.port)
    assert outbox.waiting("dead") == len(outbox) == MAX_LAG
    assert lost == {"dead": len(CAMERAS) * load.made - MAX_LAG}
    for worker in workers:
        worker.begin_end()
        worker.stop()
        worker.close()
    assert publisher.close()
    taken = {
        each: registry.get_sample_value("cidc_sink_events_total", {"sink": each}) for each in ways
    }
    assert taken["alarm"] == taken["home"] == len(CAMERAS) * load.made
    outbox.close()
    mqtt_way.cut()
    hook.kill()


def webhook(name: str, port: int, **settings: Any) -> WebhookConfig:
    tree = {"name": name, "url": f"http://127.0.0.1:{port}/", "secret": SECRET}
    return WebhookConfig.model_validate(tree | {"allow_private": True, **settings})


def check(made: int, hook: WebhookProcess, reader: Subscriber, kafka_port: int) -> None:
    """Check that every receiver has all events, in order, and that signatures are right."""
    requests = hook.requests()
    assert all(is_signed for _, is_signed in requests)
    by_webhook = [event for request, _ in requests for event in request.events]
    by_mqtt = reader.events()
    records = all_records(f"127.0.0.1:{kafka_port}", "all")
    by_kafka = [json.loads(record.value) for record in records]
    assert in_order(by_webhook, made)
    assert in_order(by_mqtt, made)
    assert in_order(by_kafka, made)
    count = len(CAMERAS) * made
    assert len(by_kafka) == count
    print(
        f"{count} events; repeated: webhook {len(by_webhook) - count} ({len(requests)} requests),"
        f" mqtt {len(by_mqtt) - count}, kafka 0"
    )
