"""Changes of cameras, written to a topic of a real broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from configs import CameraError, ConfigError, StrictModel
from stream.cameras.checks import with_shared_settings
from stream.cameras.config import CameraConfig
from stream.events.config import EventConfig, KafkaConfig
from stream.events.kafka import kafka
from stream.fleet.registry import read_table
from stream.fleet.topic import find_compacted_topic
from stream.fleet.topic_cameras import TopicCameras, checked_camera
from stream.ingest.config import SourceConfig
from tests.support.broker import free_port
from tests.support.topics import all_records

SHARED: dict[str, StrictModel] = {"events": EventConfig(smoothing=2), "source": SourceConfig()}
DOOR: dict[str, Any] = {"id": "door", "url": "rtsp://h/1"}


def complete(fields: Mapping[str, Any]) -> Any:
    return with_shared_settings(fields, SHARED)


def check(camera: CameraConfig) -> None:
    if camera.hop == 13:
        raise ConfigError("13 is refused")


@pytest.fixture
def config(bootstrap: str) -> KafkaConfig:
    made = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}", partitions=4)
    find_compacted_topic(made)
    return made


@pytest.fixture
def cameras(config: KafkaConfig) -> Iterator[TopicCameras]:
    with contextlib.closing(
        TopicCameras(config, complete=complete, check=check, worker="w1")
    ) as made:
        yield made


def refused(call: Any, *arguments: object) -> tuple[str, str]:
    with pytest.raises(CameraError) as caught:
        call(*arguments)
    return caught.value.kind, str(caught.value)


@pytest.mark.broker
def test_each_change_is_idempotent(cameras: TopicCameras, config: KafkaConfig) -> None:
    def changes(call: Any, *arguments: object) -> list[str]:
        return [call(*arguments)["change"] for _ in range(2)]

    assert changes(cameras.add, DOOR) == ["added", "unchanged"]
    events = {"events": {"smoothing": 3}}
    assert changes(cameras.change, "door", {"hop": 2} | events) == ["changed", "unchanged"]
    [record] = read_table(config, complete).cameras.values()
    assert record.fields == DOOR | {"hop": 2} | events
    assert record.camera.events is not None
    assert record.camera.events.smoothing == 3
    assert changes(cameras.replace, "door", {"url": "rtsp://h/2"}) == ["changed", "unchanged"]
    assert changes(cameras.replace, "yard", {"url": "rtsp://h/3"}) == ["added", "unchanged"]
    assert read_table(config).cameras["door"].fields == {"id": "door", "url": "rtsp://h/2"}
    assert cameras.remove("door")["change"] == "removed"
    assert refused(cameras.remove, "door")[0] == "unknown"
    assert read_table(config).cameras.keys() == {"yard"}
    # As many records as changes: what changes nothing is not written.
    assert len(all_records(config.bootstrap[0], config.topic)) == 5


@pytest.mark.broker
def test_refusals_write_nothing(cameras: TopicCameras, config: KafkaConfig) -> None:
    cameras.add(DOOR)
    assert refused(cameras.add, DOOR | {"hop": 2})[0] == "exists"
    assert refused(cameras.add, {"id": "a"})[0] == "invalid"
    assert refused(cameras.add, {"id": "a", "url": "rtsp://h/1", "hop": "2"})[0] == "invalid"
    assert "did you mean 'hop'" in refused(cameras.replace, "a", {"url": "rtsp://h", "hopp": 1})[1]
    assert refused(cameras.change, "door", {"hop": 13}) == ("invalid", "13 is refused")
    assert refused(cameras.change, "door", {"id": "other"})[0] == "invalid"
    assert refused(cameras.replace, "door", {"id": "other", "url": "rtsp://h"})[0] == "invalid"
    assert refused(cameras.change, "other", {"hop": 2})[0] == "unknown"
    kind, message = refused(cameras.change, "door", {"url": "rtsp://u:hush@h/1"})
    assert (kind, "hush" in message, "${secret:door-password}" in message) == (
        "invalid",
        False,
        True,
    )
    [record] = all_records(config.bootstrap[0], config.topic)
    assert b"hush" not in record.value


@pytest.mark.broker
def test_a_record_that_cannot_be_read_is_repaired_or_removed(
    cameras: TopicCameras, config: KafkaConfig
) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=config.bootstrap[0])
    for key in (b"door", b"yard"):
        producer.send(config.topic, b"broken", key=key).get(20)
    producer.close()
    kind, message = refused(cameras.change, "door", {"hop": 2})
    assert kind == "invalid"
    assert "not JSON" in message
    assert cameras.replace("door", DOOR)["change"] == "changed"
    assert cameras.remove("yard")["change"] == "removed"
    table = read_table(config)
    assert table.cameras.keys() == {"door"}
    assert table.unreadable == ()


def test_a_camera_whose_frames_are_pushed_is_not_written() -> None:
    with pytest.raises(ConfigError, match=r"camera a: url: push: cannot be used in a topic"):
        checked_camera({"id": "a", "url": "push:"})


def test_an_absent_broker_is_a_refusal_of_its_own() -> None:
    config = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",), topic="cams")
    with contextlib.closing(TopicCameras(config, timeout_seconds=1.0)) as cameras:
        assert refused(cameras.add, DOOR)[0] == "no_broker"


def test_old_names_of_settings_are_written_with_the_new_ones() -> None:
    written = checked_camera(DOOR | {"source": {"queue_seconds": 2.0}})
    assert written["source"] == {"max_queue_seconds": 2.0}
    assert checked_camera({"id": "a", "url": " RTSP://h/1 "})["url"] == "rtsp://h/1"
