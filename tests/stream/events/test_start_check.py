"""Secrets that others could read are warned of at the start and by `check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import check_tree
from stream.config import StreamConfig, check_settings
from stream.events.config import KafkaConfig
from stream.events.start_check import check_certificates
from tests.support.broker import certificate

LOGIN = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "hunter2"}


def warnings(caplog: pytest.LogCaptureFixture, **kafka: object) -> str:
    caplog.clear()
    check_certificates(check_tree(kafka, KafkaConfig, name="kafka"))
    assert "hunter2" not in caplog.text
    return "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("mechanism", "says"),
    [
        ("PLAIN", "whoever sees the traffic to broker:9092 reads the password"),
        ("SCRAM-SHA-256", "can search for the password (SCRAM-SHA-256 does not send it)"),
        ("SCRAM-SHA-512", "can search for the password (SCRAM-SHA-512 does not send it)"),
    ],
)
def test_a_login_without_encryption_is_warned_of(
    caplog: pytest.LogCaptureFixture, mechanism: str, says: str
) -> None:
    login = LOGIN | {"sasl_mechanism": mechanism}
    plain = {"bootstrap": "broker:9092", "security_protocol": "SASL_PLAINTEXT"}
    said = warnings(caplog, **plain, **login)
    assert says in said
    assert "use SASL_SSL" in said
    assert warnings(caplog, **plain | {"security_protocol": "SASL_SSL"}, **login) == ""
    for here in ("localhost:9092", "127.0.0.2:9092", "[::1]:9092"):
        assert warnings(caplog, **plain | {"bootstrap": here}, **login) == ""
    assert says.split()[-1] in warnings(caplog, **plain | {"bootstrap": "[::1]:1,b:2"}, **login)


def test_a_password_file_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    file.chmod(0o644)
    login = LOGIN | {"sasl_password": None, "sasl_password_file": str(file)}
    kafka = {"bootstrap": "broker:9092", "security_protocol": "SASL_SSL"} | login
    assert f"kafka.sasl_password_file {file}: other users may read" in warnings(caplog, **kafka)
    file.chmod(0o600)
    assert warnings(caplog, **kafka) == ""


def test_a_private_key_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if certificate(tmp_path) is None:
        pytest.skip("no openssl: apt-get install openssl")
    key = next(file for file in tmp_path.iterdir() if "PRIVATE KEY" in file.read_text())
    public = next(file for file in tmp_path.iterdir() if "PRIVATE KEY" not in file.read_text())
    public.chmod(0o644)
    both = tmp_path / "both.pem"
    both.write_text(public.read_text() + key.read_text())
    ssl = {"bootstrap": "broker:9092", "security_protocol": "SSL"}
    two = {"ssl_certfile": str(public), "ssl_keyfile": str(key)}
    one = {"ssl_certfile": str(both)}
    for names, setting, secret in (
        (two, "kafka.ssl_keyfile", key),
        (one, "kafka.ssl_certfile", both),
    ):
        secret.chmod(0o644)
        assert f"{setting} {secret}: other users may read" in warnings(caplog, **ssl, **names)
        secret.chmod(0o600)
        assert warnings(caplog, **ssl, **names) == ""


def test_a_token_file_that_others_may_read_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2")
    file.chmod(0o644)
    tree = {"cameras": [{"id": "a", "url": "rtsp://h/a"}], "http": {"token_file": str(file)}}
    check_settings(check_tree(tree, StreamConfig, name="test"))
    assert caplog.text.count(f"http.token_file {file}: other users may read it") == 1
    file.chmod(0o600)
    caplog.clear()
    check_settings(check_tree(tree, StreamConfig, name="test"))
    assert caplog.text == ""
