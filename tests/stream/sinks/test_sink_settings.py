"""Settings of webhooks and MQTT servers: what is refused, and that nothing shows a secret."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from configs import ConfigError, check_tree, parse_config
from stream.config import StreamConfig
from stream.sinks.assembly import check_sinks, client_id_of, make_deliveries
from stream.sinks.mqtt_config import MqttConfig, filled_topic
from stream.sinks.webhook_config import WebhookConfig

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
WEBHOOK = {"name": "alarm", "url": "https://hooks.example.com/x", "secret": SECRET}
MQTT = {"name": "home", "url": "mqtts://broker.example.com"}
CAMERA = "cameras: [{id: door, url: 'rtsp://host/1'}]\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://host/x"}, "url must be https://"),
        ({"url": "https://u:T0PSECRET@host/x"}, "headers_file"),
        ({"url": "https://host/a b?T0PSECRET"}, "percent-encode"),
        ({"url": "https://host:0/"}, "url must be"),
        ({"url": "https://host:99999/T0PSECRET"}, "url must be"),
        ({"url": "https://host/#T0PSECRET"}, "after #"),
        ({"url": "https:///x"}, "url must be"),
        ({"secret": None}, "give secret or secret_file"),
        ({"secret": "T0PSECRET"}, "begin with whsec_"),
        ({"secret": "whsec_T0PSECRET!"}, "not base64"),
        ({"secret": "whsec_QUJD"}, "has 3 bytes"),
        ({"secret_file": "/nowhere"}, "not both|give secret or secret_file"),
        ({"token_file": "/nowhere"}, "token_file not found"),
        ({"max_batch_events": 0}, "max_batch_events"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_wrong_webhooks_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_tree(WEBHOOK | settings, WebhookConfig, name="webhook")
    assert "T0PSECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://host"}, "url must be mqtts://"),
        ({"url": "mqtt://u:T0PSECRET@host"}, "password_file"),
        ({"url": "mqtt://host/T0PSECRET"}, "more than host and port"),
        ({"url": "mqtt://host", "ca_file": __file__}, "ca_file needs an address with mqtts"),
        ({"topic": "a/{room}"}, r"has \{room\}; a topic may have"),
        ({"topic": "a/+/{camera}"}, "a character that topics cannot have"),
        ({"topic": "a/{camera.__class__}"}, "has {camera.__class__}"),
        ({"topic": "a/{camera"}, "a character that topics cannot have"),
        ({"topic": "$SYS/x"}, r"not begin with \$"),
        ({"topic": ""}, "1 to 1000"),
        ({"status_topic": "a/{camera}"}, r"has \{camera\}"),
        ({"password": "T0PSECRET"}, "needs username"),
        ({"username": "u", "password": "T0PSECRET", "password_file": __file__}, "not both"),
        ({"key_file": __file__}, "key_file needs cert_file"),
        ({"client_id": "a\nb"}, "control character"),
    ],
)
def test_wrong_mqtt_servers_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_tree(MQTT | settings, MqttConfig, name="mqtt")
    assert "T0PSECRET" not in str(raised.value)


def test_names_of_sinks_are_unique() -> None:
    for name, other in (("a", "a"), ("kafka", "b")):
        text = (
            f"{CAMERA}webhooks: [{{name: {name}, url: 'https://h/', secret: {SECRET}}}]\n"
            f"mqtt: [{{name: {other}, url: 'mqtt://h'}}]"
        )
        with pytest.raises(ConfigError, match=f"'{name}' is used more than once"):
            parse_config(text, StreamConfig)


def test_no_dump_of_the_settings_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    overrides = (
        f"webhooks=[{{name: a, url: 'https://h/', secret: {SECRET}}}]",
        "mqtt=[{name: b, url: 'mqtt://h', username: u, password: hunter2}]",
    )
    config = parse_config(CAMERA, StreamConfig, overrides)
    for text in (repr(config), config.model_dump_json(), str(config.model_dump()), caplog.text):
        assert SECRET not in text
        assert "hunter2" not in text
    assert "webhooks.0.secret: other users see the secret" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("T0PSECRET", "begin with whsec_"),
        (f"{SECRET}\n" * 9, "has 9 secrets"),
        ("\ud800", "not a text file"),
        ("x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_files_of_secrets_are_checked_at_the_start(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode(errors="surrogatepass"))
    config = parse_config(
        f"{CAMERA}webhooks: [{{name: a, url: 'https://h/', secret_file: {file}}}]", StreamConfig
    )
    with pytest.raises(ConfigError, match=f"webhooks.a.secret_file.*{message}") as raised:
        check_sinks(config)
    assert "T0PSECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no header", "line 1 is not `Name: value`"),
        ("A: b\nHost: x", "line 2: the request itself has Host"),
        ("webhook-id: x", "the request itself has webhook-id"),
        ("X: T0PSECRET\x01", "line 1 is not"),
    ],
)
def test_files_of_headers_are_checked(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "headers"
    file.write_text(content)
    config = WebhookConfig.model_validate(WEBHOOK | {"headers_file": file})
    with pytest.raises(ConfigError, match=message) as raised:
        config.further_headers()
    assert "T0PSECRET" not in str(raised.value)


def test_traffic_that_is_not_encrypted_and_exposed_files_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    file.chmod(0o644)
    text = (
        f"{CAMERA}webhooks: [{{name: a, url: 'http://h/T0PSECRET', secret: {SECRET}}}]\n"
        f"mqtt: [{{name: b, url: 'mqtt://h', username: u, password_file: {file}}}]"
    )
    check_sinks(parse_config(text, StreamConfig))
    assert "webhooks.a.url is not encrypted" in caplog.text
    assert "mqtt.b.url is not encrypted" in caplog.text
    assert f"mqtt.b.password_file {file}: other users may read it" in caplog.text
    assert "T0PSECRET" not in caplog.text


def test_the_deliveries_are_those_of_the_configuration() -> None:
    text = (
        f"{CAMERA}webhooks: [{{name: a, url: 'https://h:1/x?y', secret: {SECRET}}}]\n"
        "mqtt: [{name: b, url: 'mqtt://h:1884'}]"
    )
    made = make_deliveries(parse_config(text, StreamConfig))
    shown = [(config.name, sent.name, sent.address, sent.max_batch) for config, sent in made]
    assert shown == [("a", "a", "https://h:1", 1), ("b", "b", "mqtt://h:1884", 1000)]


def test_client_ids_differ_between_outboxes_and_stay_the_same() -> None:
    first, again, other = (client_id_of("b", Path(name)) for name in ("a.db", "a.db", "c.db"))
    assert first == again != other
    assert first.startswith("cidc-")


@pytest.mark.parametrize(
    ("camera", "topic"),
    [("door", "e/door/x"), ("a/+#b", "e/a___b/x"), ("\0\x1f", "e/__/x"), ("", "e/_/x")],
)
def test_values_in_topics_cannot_change_their_levels(camera: str, topic: str) -> None:
    assert filled_topic("e/{camera}/x", camera=camera) == topic
