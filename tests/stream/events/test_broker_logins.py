"""Connections to brokers over TLS and with a login; passwords stay secret."""

from __future__ import annotations

import json
import threading
import traceback
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import BrokerError, ConfigError, check_tree
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.kafka import explained, kafka
from stream.events.outbox import Outbox
from stream.events.producer_watch import PublisherTimings
from stream.events.publisher import Publisher
from tests.support.broker import Proxy, certificate, free_port, running_broker
from tests.support.factory import make_event
from tests.support.sasl import SaslProxy
from tests.support.waiting import until


def test_a_password_is_never_shown() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "hunter2"}
    config = KafkaConfig.model_validate({"security_protocol": "SASL_PLAINTEXT"} | login)
    assert "hunter2" not in repr(config)
    assert "hunter2" not in config.model_dump_json()
    assert config.connection()["sasl_plain_password"] == "hunter2"


LOGIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}


def shown(tree: dict[str, object], secret: str) -> str:
    """What a refusal of settings shows, with its causes."""
    text = json.dumps(tree).replace("{}", secret)
    assert secret in text
    with pytest.raises(ConfigError) as raised:
        check_tree(json.loads(text), KafkaConfig, name="kafka")
    return "".join(traceback.format_exception(raised.value))


AROUND = st.text("aZ0:,/@# %", max_size=4)


@pytest.mark.parametrize("shape", ["u:{}@h:1", "{}@h:1", "b:1,u:{}@h:1", "kafka://u:{}@h:1/x"])
@given(before=AROUND, after=AROUND)
def test_a_login_in_a_bootstrap_address_is_refused_and_not_shown(
    shape: str, before: str, after: str
) -> None:
    assert "kPzQ7x" not in shown({"bootstrap": shape}, f"{before}kPzQ7x{after}")


@pytest.mark.parametrize(
    "tree",
    [
        *({"bootstrap": text} for text in ("u:{}%40h:9092", "u:{}:h:9092", "u:{}", "u:{}#h:1")),
        *({"bootstrap": text} for text in ("kafka://u:{}%40h:1", "x://u:{}", "x://u:{}/h:1")),
        *({"bootstrap": text} for text in ("u:1/{}", "kafka://h:1/?password={}", "u:{}@h")),
        *(LOGIN | {"sasl_password": text} for text in ("{}\0", "{}\ud800", ["{}"], {"{}": 1})),
        LOGIN | {"sasl_password": "{}", "ssl_cafile": "/dev/none"},
        LOGIN | {"sasl_password": "{}", "sasl_password_file": "x"},
        {"sasl_password": "{}"},
    ],
    ids=str,
)
def test_a_password_in_the_wrong_place_is_refused_and_not_shown(tree: dict[str, object]) -> None:
    assert "kPzQ7x" not in shown(tree, "kPzQ7x")


def test_a_password_that_a_broker_repeats_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = LOGIN | {"bootstrap": "b:1", "sasl_password": "kPzQ7x", "drain_seconds": 0}
    config = check_tree(tree, KafkaConfig, name="kafka")

    def refuse(*_: object) -> None:
        raise kafka.errors.SaslAuthenticationFailedError("no user u with kPzQ7x")  # as kafka-python

    with pytest.raises(BrokerError, match=r"no user u with \*\*\*") as raised, explained(config):
        refuse()
    assert "kPzQ7x" not in "".join(traceback.format_exception(raised.value))
    monkeypatch.setattr("stream.events.topic.connect_admin", refuse)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    publisher = Publisher(config, outbox, timings=PublisherTimings(retry_seconds=0.01))
    publisher.start()
    assert until(lambda: "events wait" in caplog.text, 20)
    publisher.close()
    outbox.close()
    assert "no user u with ***; events wait" in caplog.text
    assert "kPzQ7x" not in caplog.text


def test_a_user_name_with_control_characters_is_refused() -> None:
    tree = LOGIN | {"sasl_username": "u\0admin", "sasl_password": "x"}
    with pytest.raises(ConfigError, match=r"'u\\x00admin' contains a control character"):
        check_tree(tree, KafkaConfig, name="kafka")


def test_a_password_file_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"kPzQ7x\0admin\n")
    config = check_tree(
        LOGIN | {"sasl_password_file": tmp_path / "password"}, KafkaConfig, name="kafka"
    )
    with pytest.raises(BrokerError, match="contains a zero byte; remove it") as raised:
        config.connection()
    assert "kPzQ7x" not in str(raised.value)
    assert config.redact("a text") == "a text"


@pytest.mark.slow
@pytest.mark.broker
def test_events_are_sent_over_tls_only_to_a_trusted_broker(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port, tls=context)
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        outbox.append([make_event(1)])
        address = (f"127.0.0.1:{port}",)
        doubtful = Publisher(
            KafkaConfig(bootstrap=address, security_protocol="SSL", drain_seconds=0.1),
            outbox,
            on_failure=lambda error: failures.update([error]),
        )
        doubtful.start()
        assert until(lambda: bool(failures), 20)
        doubtful.close()
        assert len(outbox) == 1
        config = KafkaConfig(bootstrap=address, security_protocol="SSL", ssl_cafile=str(authority))
        publisher = Publisher(config, outbox)
        publisher.start()
        assert until(lambda: len(outbox) == 0, 20)
        publisher.close()
        outbox.close()
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1]
        proxy.cut()


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_only_a_publisher_with_the_right_password_gets_events_through(
    mechanism: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = SaslProxy(
            int(bootstrap.split(":")[1]),
            port,
            users={"cidc": "right"},
            mechanism=mechanism,
            tls=context,
        )
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        outbox.append([make_event(1)])

        for password in ("right", "wrong"):
            (tmp_path / password).write_text(password + "\n")

        def settings(password: str) -> KafkaConfig:
            return KafkaConfig.model_validate(
                {
                    "bootstrap": [f"127.0.0.1:{port}"],
                    "security_protocol": "SASL_SSL",
                    "ssl_cafile": str(authority),
                    "sasl_mechanism": mechanism,
                    "sasl_username": "cidc",
                    "sasl_password_file": tmp_path / password,
                    "drain_seconds": 0.1,
                }
            )

        wrong = Publisher(
            settings("wrong"), outbox, on_failure=lambda error: failures.update([error])
        )
        wrong.start()
        assert until(lambda: proxy.logins["refused"] > 1 and bool(failures), 30)
        wrong.close()
        assert len(outbox) == 1
        assert not proxy.logins["let in"]
        publisher = Publisher(settings("right"), outbox)
        publisher.start()
        assert until(lambda: len(outbox) == 0, 30)
        publisher.close()
        outbox.close()
        assert proxy.logins["let in"]
        assert [
            event.sequence
            for event in read_topic(settings("right"), threading.Event(), follow=False)
        ] == [1]
        with pytest.raises(BrokerError) as raised:
            list(read_topic(settings("wrong"), threading.Event(), follow=False, timeout_seconds=3))
        assert "wrong" not in str(raised.value)
        assert proxy.logins["without login"] == 0
        proxy.cut()
    assert "wrong" not in caplog.text
    assert "right" not in caplog.text
