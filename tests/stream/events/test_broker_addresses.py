"""Addresses of brokers: which settings are refused, and what is said of advertised addresses."""

import logging
import threading

import pytest

from configs import BrokerError, ConfigError, check_tree
from stream.events.config import KafkaConfig
from stream.events.consumer import read_topic
from stream.events.topic import find_topic
from tests.support.broker import free_port, running_broker


@pytest.mark.parametrize(
    "address",
    [
        "kafka://b1:9092",
        "PLAINTEXT://b1:9092",
        "tcp://user:secret@b1:9092/x",
        "http://b1:9092",
        "b1",
        "b1:",
        ":9092",
        "b1:0",
        "b1:65536",
        "b1:-1",
        "b1:9092x",
        "b1:9092/topic",
        "b 1:9092",
        "b1 :9092",
        "b1: 9092",
        "2001:db8::1:9092",
        "[2001:db8::1]",
        "[::1:9092",
        "user:secret@b1:9092",
        "b1;b2:9092",
        "b1:9092;b2:9092",
        "b1:9092 b2:9092",
        "b1:٩٠٩٢",
        "bröker:9092",
    ],
)
def test_a_bootstrap_address_that_kafka_cannot_use_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not host:port") as raised:
        check_tree({"bootstrap": [address]}, KafkaConfig, name="kafka")
    assert "secret" not in str(raised.value)


def test_the_address_without_its_scheme_is_suggested() -> None:
    with pytest.raises(ConfigError, match="write b1:9092, without a scheme"):
        check_tree({"bootstrap": "kafka://b1:9092"}, KafkaConfig, name="kafka")


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ("b1:9092", ("b1:9092",)),
        ("b1:9092, b2.example.com:9093", ("b1:9092", "b2.example.com:9093")),
        (["b1:9092,b2:9092"], ("b1:9092", "b2:9092")),
        (["10.0.0.1:1", " [::1]:65535 "], ("10.0.0.1:1", "[::1]:65535")),
        ("my_broker-1:9092", ("my_broker-1:9092",)),
        ([], ()),
    ],
)
def test_addresses_are_taken_as_kafka_writes_them(given: object, split: tuple[str, ...]) -> None:
    assert check_tree({"bootstrap": given}, KafkaConfig, name="kafka").bootstrap == split


@pytest.mark.parametrize("topic", [".", "..", "", "a b", "a/b", "ä", "a" * 250])
def test_a_topic_that_kafka_refuses_is_refused(topic: str) -> None:
    with pytest.raises(ConfigError, match="topic"):
        check_tree({"topic": topic}, KafkaConfig, name="kafka")


@pytest.mark.broker
def test_a_broker_that_advertises_an_unknown_name_is_reported_by_that_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "kafka")
    with running_broker(advertised_port=9092, advertised_host="broker-7.invalid") as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,))
        problem = find_topic(config)
        assert problem is not None
        assert problem.failure == "advertised_address"
        assert "broker-7.invalid:9092, a name that cannot be resolved" in problem.reason
        assert "advertised.listeners" in problem.reason
        with pytest.raises(BrokerError, match=r"broker-7\.invalid:9092"):
            list(read_topic(config, threading.Event(), follow=False, timeout_seconds=1))


@pytest.mark.broker
def test_a_broker_that_advertises_a_port_where_nothing_listens_is_reported_by_it() -> None:
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        problem = find_topic(KafkaConfig(bootstrap=(bootstrap,)))
    assert problem is not None
    assert f"advertises 127.0.0.1:{port}, which cannot be reached" in problem.reason
