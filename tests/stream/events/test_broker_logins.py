"""Connections to brokers over TLS and with a login; passwords stay secret."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from configs import BrokerError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.outbox import Outbox
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
            KafkaConfig(bootstrap=address, security_protocol="SSL", flush_seconds=0.1),
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
                    "flush_seconds": 0.1,
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
        with pytest.raises(BrokerError):
            list(read_topic(settings("wrong"), threading.Event(), follow=False, timeout_seconds=3))
        assert proxy.logins["without login"] == 0
        proxy.cut()
    assert "wrong" not in caplog.text
    assert "right" not in caplog.text
