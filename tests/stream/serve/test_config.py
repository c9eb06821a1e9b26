"""Settings of the section `http`: limits, tokens, names they had before."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from configs import ConfigError, check_tree, parse_config
from stream.config import StreamConfig
from stream.serve.config import HttpConfig

CAMERA = "cameras: [{id: a, url: rtsp://h/a}]\n"
RENAMED = [("most_body_bytes", "max_body_bytes"), ("most_connections", "max_connections")]


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_an_old_name_works_and_is_warned_about(
    old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"setting {old} is now called {new}"
    with caplog.at_level(logging.WARNING):
        written = parse_config(CAMERA + f"http: {{{old}: 2000}}", StreamConfig)
        assert caplog.text.count(said) == 1
        overridden = parse_config(CAMERA, StreamConfig, [f"http.{old}=2000"])
        assert caplog.text.count(said) == 2
    assert getattr(written.http, new) == getattr(overridden.http, new) == 2000


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_the_new_name_gives_no_warning(
    old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = parse_config(CAMERA + f"http: {{{new}: 2000}}", StreamConfig)
    assert getattr(config.http, new) == 2000
    assert old not in caplog.text


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_an_old_and_a_new_name_together_are_an_error(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"http: {old} is the old name of {new}; give only {new}"):
        parse_config(CAMERA + f"http: {{{new}: 2000, {old}: 3000}}", StreamConfig)


@pytest.mark.parametrize(("old", "new"), RENAMED)
def test_an_override_by_the_old_name_takes_the_place_of_the_new_one(old: str, new: str) -> None:
    text = CAMERA + f"http: {{{new}: 2000}}"
    config = parse_config(text, StreamConfig, [f"http.{old}=3000"])
    assert getattr(config.http, new) == 3000


def test_limits_hold_under_an_old_name_too() -> None:
    with pytest.raises(ConfigError, match=r"http\.max_connections: Input should be greater"):
        parse_config(CAMERA + "http: {most_connections: 1}", StreamConfig)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 9000, "probe_port": 9000}, "probe_port must differ from port; both are 9000"),
        ({"token": "t", "token_file": "f"}, "give token or token_file, not both"),
        ({"token": ""}, "token must be plain ASCII"),
        ({"token": " t"}, "token must be plain ASCII"),
        ({"token": "t\u00e9"}, "token must be plain ASCII"),
        ({"hosts": ["http://stream.example.org"]}, "a host name without scheme, port and path"),
        ({"hosts": ["stream.example.org:9108"]}, "a host name without scheme, port and path"),
        ({"hosts": [""]}, "a host name without scheme, port and path"),
        ({"hosts": "stream.example.org"}, r"hosts: must be a list"),
        ({"files": "/srv"}, r"files: must be a list"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_tree(settings, HttpConfig, name="http")


def test_both_ports_may_be_any_free_one() -> None:
    assert HttpConfig(port=0, probe_port=0).probe_port == 0


def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match=r"http\.token_file .*token cannot be read"):
        HttpConfig(token_file=path).secret()
    for content in (b"", b"\n", "t\u00e9".encode()):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"token must hold a token of plain ASCII"):
            HttpConfig(token_file=path).secret()
    path.write_text("s3cret\n")
    assert HttpConfig(token_file=path).secret() == "s3cret"
