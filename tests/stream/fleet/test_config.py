"""The section `cameras_from`, and what it changes in the whole configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import ConfigError, check_tree, example_path, load_config, parse_config
from stream.config import StreamConfig, max_views, overrides_path
from stream.events.config import KafkaConfig
from stream.fleet.config import CamerasFrom, broker_of_cameras, worker_name

FLEET = "kafka: {bootstrap: [b:9092]}\ncameras_from: {topic: cams}\n"


def test_the_cameras_of_the_file_are_used_unless_a_topic_is_named() -> None:
    config = load_config(example_path("stream.yaml"), StreamConfig)
    assert config.cameras_from == CamerasFrom()
    assert config.cameras_from.topic is None
    assert max_views(config) == 64
    assert overrides_path(config) is not None


def test_with_a_topic_no_list_of_cameras_is_needed() -> None:
    config = parse_config(FLEET, StreamConfig)
    assert config.cameras == ()
    assert max_views(config) == 256
    assert overrides_path(config) is None
    assert max_views(parse_config(FLEET + "batch: {max_views: 5}\n", StreamConfig)) == 5
    # A worker takes changes from the topic, so it may run without HTTP.
    assert not parse_config(FLEET + "http: {enabled: false}\n", StreamConfig).http.enabled


def test_without_a_topic_the_list_stays_required() -> None:
    for text in ("kafka: {bootstrap: [b:9092]}", "cameras_from: {group: g}"):
        with pytest.raises(ConfigError, match="cameras: this setting is required"):
            parse_config(text, StreamConfig)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            FLEET + "cameras: [{id: a, url: /dev/video0}]",
            ("cameras and cameras_from.topic are both given", "1 cameras", "'cams'", "import"),
        ),
        ("cameras_from: {topic: cams}", ("needs a broker", "kafka.bootstrap")),
        (
            "kafka: {bootstrap: [b:9092]}\ncameras_from: {topic: action-events}",
            ("kafka.topic", "'action-events'"),
        ),
        ("cameras_from: {topic: action-open}", ("open_events_topic", "must differ")),
        ("cameras_from: {topic: .}", ("Kafka refuses this name",)),
        ("cameras_from: {topic: a b}", ("cameras_from.topic",)),
        ("cameras_from: {topic: c, bootstrap: 'u:secret@h:1'}", ("host:port",)),
        ("cameras_from: {topic: c, worker: 'a b'}", ("cameras_from.worker",)),
        ("cameras_from: {topic: c, replication: 0}", ("replication",)),
        ("cameras_from: {topics: c}", ("did you mean 'topic'",)),
    ],
)
def test_mistakes_are_named(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, StreamConfig)
    for part in parts:
        assert part in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_broker_of_the_cameras_is_reached_as_that_of_the_events() -> None:
    kafka = KafkaConfig(
        bootstrap=("events:9092",),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="pass",  # type: ignore[arg-type]
    )
    own = check_tree(
        {"topic": "cams", "bootstrap": "a:1, b:2", "partitions": 7}, CamerasFrom, name="x"
    )
    broker = broker_of_cameras(own, kafka)
    assert (broker.bootstrap, broker.topic, broker.partitions) == (("a:1", "b:2"), "cams", 7)
    assert broker.connection()["sasl_plain_password"] == "pass"
    assert broker_of_cameras(CamerasFrom(topic="cams"), kafka).bootstrap == ("events:9092",)


def test_a_worker_has_a_stable_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "-strange host!" + "x" * 80)
    names = [worker_name(CamerasFrom(), tmp_path / each) for each in ("a.db", "b.db", "a.db")]
    assert names[0] == names[2] != names[1]
    for name in names:
        assert CamerasFrom(worker=name).worker == name  # it has the characters of a name
        assert name.startswith("strange-host-x")
    assert worker_name(CamerasFrom(worker="w1"), tmp_path) == "w1"
