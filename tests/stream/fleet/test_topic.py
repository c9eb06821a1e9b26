"""The topic of the cameras on a real broker; what brokers say of it is also played."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from configs import BrokerError
from stream.events.config import KafkaConfig
from stream.events.kafka import connect_admin, kafka
from stream.fleet import topic as module
from stream.fleet.topic import find_compacted_topic
from tests.support.broker import free_port, running_broker


def config(bootstrap: str, **more: Any) -> KafkaConfig:
    return KafkaConfig(bootstrap=(bootstrap,), topic="cams", partitions=64, **more)


@pytest.mark.broker
def test_a_missing_topic_is_created_compacted_and_then_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_broker() as bootstrap, caplog.at_level(logging.INFO):
        assert find_compacted_topic(config(bootstrap)) == 64
        with contextlib.closing(connect_admin(config(bootstrap))) as admin:
            resource = kafka.admin.ConfigResource("TOPIC", "cams")
            found = admin.describe_configs([resource], config_filter="all")["topic"]["cams"]
        assert found["cleanup.policy"]["value"] == "compact"
        assert "created the Kafka topic 'cams' with 64 partitions" in caplog.text
        caplog.clear()
        assert find_compacted_topic(config(bootstrap, create_topic=False)) == 64
        assert "created" not in caplog.text
        fewer = config(bootstrap).model_copy(update={"partitions": 100})
        assert find_compacted_topic(fewer) == 64
        assert "64 partitions, fewer than the 100" in caplog.text


@pytest.mark.broker
def test_a_missing_topic_that_may_not_be_created_comes_with_the_command() -> None:
    with running_broker() as bootstrap:
        with pytest.raises(BrokerError, match="create_topic is false") as caught:
            find_compacted_topic(config(bootstrap, create_topic=False))
        assert "--partitions 64 --config cleanup.policy=compact" in str(caught.value)


def test_an_absent_broker_is_a_clear_error() -> None:
    with pytest.raises(BrokerError, match="cannot be reached"):
        find_compacted_topic(config(f"127.0.0.1:{free_port()}"))


class PlayedAdmin:
    """An admin client of a broker that has the topic with these settings."""

    def __init__(self, settings: dict[str, str] | Exception, *, exists: bool = True) -> None:
        self.settings = settings
        self.exists = exists
        self.refusal: Exception | None = None

    def list_topics(self) -> list[str]:
        return ["cams"] if self.exists else []

    def create_topics(self, topics: object, wait_for_metadata: bool) -> None:
        assert self.refusal is not None
        raise self.refusal

    def describe_topics(self, topics: list[str]) -> list[dict[str, Any]]:
        return [{"partitions": [None] * 64} for _ in topics]

    def describe_configs(self, resources: object, config_filter: str) -> dict[str, Any]:
        if isinstance(self.settings, Exception):
            raise self.settings
        values = {name: {"value": value} for name, value in self.settings.items()}
        return {"topic": {"cams": values}}


def find(admin: PlayedAdmin, monkeypatch: pytest.MonkeyPatch) -> int:
    @contextlib.contextmanager
    def connected(_: KafkaConfig) -> Iterator[PlayedAdmin]:
        yield admin

    monkeypatch.setattr(module, "_admin", connected)
    return find_compacted_topic(config("b:1"))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "604800000"}, "retention.ms=604800000"),
        ({"cleanup.policy": "compact, delete", "retention.ms": "1"}, "policy=compact,delete"),
        ({"cleanup.policy": "delete", "retention.bytes": "9"}, "retention.bytes=9"),
    ],
)
def test_a_topic_that_would_lose_cameras_is_refused(
    settings: dict[str, str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokerError, match="would delete cameras") as caught:
        find(PlayedAdmin(settings), monkeypatch)
    assert part in str(caught.value)
    assert "--add-config cleanup.policy=compact" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"cleanup.policy": "compact", "retention.ms": "604800000"},
        {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
        {},
    ],
)
def test_a_topic_that_keeps_cameras_is_used(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(PlayedAdmin(settings), monkeypatch) == 64


def test_a_user_who_may_not_see_settings_gets_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    admin = PlayedAdmin(kafka.errors.TopicAuthorizationFailedError())
    with caplog.at_level(logging.WARNING):
        assert find(admin, monkeypatch) == 64
    assert "make sure that its cleanup.policy is compact" in caplog.text


def test_a_user_who_may_not_create_topics_gets_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin = PlayedAdmin({}, exists=False)
    admin.refusal = kafka.errors.ClusterAuthorizationFailedError()
    with pytest.raises(BrokerError, match=r"does not let this user create it.*kafka-topics.sh"):
        find(admin, monkeypatch)
    # Another worker may create the topic between the question and the answer.
    admin.refusal = kafka.errors.TopicAlreadyExistsError()
    assert find(admin, monkeypatch) == 64
