"""The publisher and a broker that is away, cut off, or comes back elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.outbox import Outbox
from stream.events.producer_watch import PublisherTimings
from stream.events.publisher import Publisher
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.factory import make_event
from tests.support.topics import all_records, make_sequence
from tests.support.waiting import until

KINDS = ("started", "updated", "ended")


@pytest.mark.broker
@pytest.mark.slow
def test_a_broker_cut_off_for_20_seconds_gets_everything_once_and_in_order(tmp_path: Path) -> None:
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        config = KafkaConfig(bootstrap=(f"127.0.0.1:{port}",), topic="cut")
        publisher = Publisher(config, outbox, on_failure=lambda error: failures.update([error]))
        publisher.start()
        expected: dict[str, list[int]] = {"a": [], "b": []}
        stop = threading.Event()

        def announce() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                for camera, sent in expected.items():
                    outbox.append(
                        [
                            make_event(
                                number, camera=camera, event=number // 3, kind=KINDS[number % 3]
                            )
                        ]
                    )
                    sent.append(number)
                time.sleep(0.05)  # the pace at which events come

        announcer = threading.Thread(target=announce)
        announcer.start()
        assert until(lambda: len(expected["a"]) > 20 and len(outbox) < 10, 20)
        proxy.lose_replies()
        time.sleep(0.3)  # nothing here shows when the broker has stored what it was sent
        proxy.cut()
        time.sleep(20)  # as long as the broker is cut off
        waiting = len(outbox)
        proxy.restore()
        stop_after = len(expected["a"]) + 20
        assert until(lambda: len(expected["a"]) > stop_after, 20)
        stop.set()
        announcer.join()
        assert until(lambda: len(outbox) == 0, 30)
        assert publisher.close()
        records = all_records(f"127.0.0.1:{port}", "cut")
        proxy.cut()
        outbox.close()
    assert waiting > 100  # they really had to wait
    for camera, sent in expected.items():
        assert [
            make_sequence(record) for record in records if record.key == camera.encode()
        ] == sent
    kinds = Counter((record.value, record.key) for record in records)
    assert max(kinds.values()) == 1


@pytest.mark.slow
def test_without_a_broker_nothing_hangs_and_nothing_is_lost(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    failures = Counter[str]()
    outbox.append([make_event(1)])
    config = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",), drain_seconds=0.5)
    publisher = Publisher(config, outbox, on_failure=lambda error: failures.update([error]))
    publisher.start()
    assert until(lambda: failures["no_metadata"] > 0, 10)
    started_at = time.monotonic()
    assert not publisher.close()
    assert time.monotonic() - started_at < 10
    assert len(outbox) == 1
    outbox.close()


@pytest.mark.broker
@pytest.mark.slow
def test_a_broker_that_comes_back_empty_at_another_address_gets_the_events(tmp_path: Path) -> None:
    port = free_port()
    config = KafkaConfig(
        bootstrap=(f"127.0.0.1:{port}",), topic=f"t{port}", request_timeout_seconds=1
    )
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    with running_broker() as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)  # the address that does not change
        outbox.append([make_event(1)])
        timings = PublisherTimings(suspect_seconds=2.0, grace_seconds=1.0)
        publisher = Publisher(config, outbox, timings=timings)
        publisher.start()
        assert until(lambda: len(outbox) == 0, 20)
    outbox.append([make_event(2), make_event(3)])
    with running_broker() as bootstrap:
        proxy.upstream = int(bootstrap.split(":")[1])
        assert until(lambda: len(outbox) == 0, 40)
        publisher.close()
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [2, 3]
        proxy.cut()
    outbox.close()
