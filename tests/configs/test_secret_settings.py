"""Secrets given with `--set` show in the list of processes; nothing that is written shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from configs import parse_config
from stream.config import StreamConfig
from train.ablations.config import AblationConfig
from train.config import TrainConfig

TEXT = "cameras: [{id: door, url: 'rtsp://host/1'}]"
IN_FILE = "put it into the configuration file"
SASL = ("kafka.security_protocol=SASL_SSL", "kafka.sasl_mechanism=PLAIN", "kafka.sasl_username=u")


def warnings(caplog: pytest.LogCaptureFixture, *overrides: str) -> list[str]:
    parse_config(TEXT, StreamConfig, overrides)
    assert not any("hunter2" in message for message in caplog.messages)
    about = "other users see the secret in the list of processes"
    return [
        message.removeprefix("--set ").replace(f": {about}; ", ": ")
        for message in caplog.messages
        if about in message
    ]


def test_every_secret_on_the_command_line_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    given = ("http.token=hunter2", *SASL, "kafka.sasl_password=hunter2")
    assert warnings(caplog, *given) == [
        f"http.token: use http.token_file, or {IN_FILE}",
        f"kafka.sasl_password: use kafka.sasl_password_file, or {IN_FILE}",
    ]


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("http={token: hunter2, port: 0}", "http.token"),
        ("cameras.door.url=rtsp://u:hunter2@host/1", "cameras.door.url"),
        ("cameras.0.url=rtsp://u:hunter2@host/1", "cameras.0.url"),
        ("cameras=[{id: b, url: 'rtsp://u:hunter2@host/1'}]", "cameras.0.url"),
    ],
)
def test_sections_lists_and_addresses_are_searched(
    caplog: pytest.LogCaptureFixture, override: str, path: str
) -> None:
    (warning,) = warnings(caplog, override)
    assert warning.startswith(f"{path}: ")


def test_what_is_not_secret_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    given = (
        "http.token=null",
        "http.port=0",
        "http.host=0.0.0.0",
        "cameras.door.url=rtsp://user@host:554/a:b@c",
        "log.level=info",
        "events.default={enter: 0.6, exit: 0.3}",
    )
    assert warnings(caplog, *given) == []


def test_no_dump_of_the_settings_shows_a_secret() -> None:
    given = ("http.token=hunter2", *SASL, "kafka.sasl_password=hunter2")
    config = parse_config(TEXT, StreamConfig, given)
    shown = (repr(config), str(config), config.model_dump_json(), str(config.model_dump()))
    assert not any("hunter2" in text for text in shown)


def annotations(schema: type[BaseModel]) -> Iterator[Any]:
    """The types of all fields of a settings class, at any depth."""
    waiting: list[Any] = [schema]
    seen: set[type] = set()
    while waiting:
        annotation = waiting.pop()
        yield annotation
        waiting += get_args(annotation)
        if (
            isinstance(annotation, type)
            and issubclass(annotation, BaseModel)
            and annotation not in seen
        ):
            seen.add(annotation)
            waiting += [field.annotation for field in annotation.model_fields.values()]


def test_run_folders_of_training_hold_no_secret() -> None:
    """Training writes its settings and its command line into the run's folder."""
    assert SecretStr in set(annotations(StreamConfig))  # this search finds secrets
    for schema in (TrainConfig, AblationConfig):
        assert SecretStr not in set(annotations(schema))
