"""Settings of second looks: what is refused, and which question an action gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from configs import ConfigError
from stream.verify.config import VerifyConfig


def settings(**fields: object) -> VerifyConfig:
    """Settings with an endpoint."""
    return VerifyConfig.model_validate(
        {"endpoint": "http://127.0.0.1:8000/v1", "model": "m"} | fields
    )


def test_it_is_off_by_default() -> None:
    assert not VerifyConfig().is_on
    assert settings().is_on
    assert settings(endpoint="https://host.example/v1/").endpoint == "https://host.example/v1"


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("127.0.0.1:8000", "base address"),
        ("ftp://host/v1", "base address"),
        ("http://", "base address"),
        ("http://host:99999/v1", "base address"),
        ("http://ho st/v1", "base address"),
        ("http://host/v1\n", "base address"),
        ("http://user:secret@host/v1", "verify.api_key_file"),
        ("http://host/v1?key=secret", "query"),
        ("http://host/v1#x", "fragment"),
    ],
)
def test_addresses_that_are_refused(endpoint: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as found:
        settings(endpoint=endpoint)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"min_confidence": 0.9, "max_confidence": 0.8},
        {"frames": 0},
        {"frames": 9},
        {"prompt": " "},
        {"prompts": {"fall": ""}},
        {"tls_ca_file": "/nowhere.pem"},
        {"max_response_bytes": 1 << 20},
    ],
)
def test_values_that_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**fields)


def test_an_action_has_its_own_question_or_the_common_one() -> None:
    config = settings(prompt="Is it {action}? {x}", prompts={"fall": "Does {action} happen?"})
    assert config.question("fall") == "Does fall happen?"
    assert config.question("hug {0}") == "Is it hug {0}? {x}"
    assert "wave" in settings().question("wave")


def test_actions_must_be_known_to_the_weights() -> None:
    labels = ("background", "fall")
    settings(actions=["fall"], prompts={"fall": "?"}).check_labels(labels)
    with pytest.raises(ConfigError, match=r"verify\.actions: .* fal; they have background, fall"):
        settings(actions=["fal"]).check_labels(labels)
    with pytest.raises(ConfigError, match=r"verify\.prompts"):
        settings(prompts={"fal": "?"}).check_labels(labels)


def test_the_key_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    config = settings(api_key_file=file)
    assert settings().api_key() is None
    with pytest.raises(ConfigError, match="cannot be read"):
        config.api_key()
    for bad in ("", " \n", "schl\u00fcssel", "a\nb"):
        file.write_text(bad)
        with pytest.raises(ConfigError, match="plain ASCII"):
            config.api_key()
    file.write_text("sk-1\n")
    assert config.api_key() == "sk-1"
