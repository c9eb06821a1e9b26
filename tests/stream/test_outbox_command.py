"""Sending a stranded outbox, read back from a real broker."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.outbox import Outbox
from stream.outbox_command import DrainReport, drain_outbox
from tests.support.broker import free_port, running_broker
from tests.support.command_line import assert_one_error, stream
from tests.support.factory import make_event


def stranded(path: Path, events: int, cameras: int = 3) -> Path:
    """Write an outbox as a killed pipeline leaves it: the action of the last event is open."""
    outbox = Outbox(OutboxConfig(path=path))
    kinds = ["ended"] * (events - 1) + ["started"]
    outbox.append(
        [
            make_event(number // cameras + 1, camera=f"c{number % cameras}", kind=kind)
            for number, kind in enumerate(kinds)
        ]
    )
    outbox.close()
    return path


@pytest.mark.broker
def test_a_stranded_outbox_is_sent_in_order_and_its_open_action_ends(tmp_path: Path) -> None:
    path = stranded(tmp_path / "o.db", 30)
    with running_broker() as bootstrap:
        topic = f"t{free_port()}"
        done = stream("outbox", "drain", path, "--bootstrap", bootstrap, "--topic", topic)
        assert (done.returncode, done.stdout) == (
            0,
            "sent 31 events (1 of them end actions of a killed process), 0 remain\n",
        ), done.stderr
        kafka = KafkaConfig(bootstrap=(bootstrap,), topic=topic)
        read = list(read_topic(kafka, threading.Event(), follow=False))
        again = stream("outbox", "drain", path, "--bootstrap", bootstrap, "--topic", topic)
    for camera, expected in (("c0", 10), ("c1", 10), ("c2", 11)):
        mine = [event.sequence for event in read if event.camera_id == camera]
        assert mine == list(range(1, expected + 1))
    assert [event.reason for event in read if event.camera_id == "c2"][-1] == "crash"
    assert (again.returncode, again.stdout) == (0, "sent 0 events, 0 remain\n")


def test_what_cannot_be_sent_in_time_stays(tmp_path: Path) -> None:
    path = stranded(tmp_path / "o.db", 3)
    kafka = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",))
    started_at = time.monotonic()
    report = drain_outbox(path, kafka, stop=threading.Event(), max_seconds=0.5)
    assert report == DrainReport(sent=0, remaining=4, dead=0, ended=1)
    assert time.monotonic() - started_at < 15
    bootstrap = f"127.0.0.1:{free_port()}"
    done = stream("outbox", "drain", path, "--bootstrap", bootstrap, "--seconds", "0.5")
    assert (done.returncode, done.stdout) == (1, "sent 0 events, 4 remain\n")


def test_an_outbox_in_use_a_missing_one_and_a_missing_broker_are_refused(tmp_path: Path) -> None:
    kafka = KafkaConfig(bootstrap=("127.0.0.1:1",))
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    with pytest.raises(OutboxError, match="a running pipeline uses it"):
        drain_outbox(tmp_path / "o.db", kafka, stop=threading.Event(), max_seconds=1)
    outbox.close()
    with pytest.raises(OutboxError, match=r"outbox not found: .*gone\.db"):
        drain_outbox(tmp_path / "gone.db", kafka, stop=threading.Event(), max_seconds=1)
    assert not (tmp_path / "gone.db").exists()
    assert_one_error(stream("outbox", "drain", tmp_path / "o.db"), "no broker is named")
