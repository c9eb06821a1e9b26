"""Settings of second looks at actions (section `verify`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from configs import ConfigError, StrictModel, has_controls, is_file
from configs.secret_files import read_token

__all__ = ["VerifyConfig"]

_MAX_QUESTION = 4000  # characters
_QUESTION = (
    "These are frames of a fixed camera in the order of time, over about two seconds. A program"
    " reports that they show the action: {action}. Do they show it?"
)


def _check_endpoint(address: str) -> str:
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        is_address = False
    if not is_address or has_controls(address) or " " in address:
        raise ValueError(
            "must be the base address of an OpenAI-compatible endpoint, such as"
            " http://127.0.0.1:8000/v1"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a login; put the key in verify.api_key_file")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    return address.rstrip("/")


def _check_question(text: str) -> str:
    if not text.strip() or len(text) > _MAX_QUESTION:
        raise ValueError(f"must have 1 to {_MAX_QUESTION} characters")
    return text


Question = Annotated[str, AfterValidator(_check_question)]


class VerifyConfig(StrictModel):
    """Settings of second looks: a vision language model answers whether an action is there."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] | None = Field(
        None,
        description="base address of an OpenAI-compatible endpoint, to which frames are sent, such"
        " as http://127.0.0.1:8000/v1; null: no second looks",
    )
    model: str | None = Field(
        None, min_length=1, max_length=200, description="name of the model at the endpoint"
    )
    api_key_file: Path | None = Field(
        None, description="file with the key of the endpoint; null: no key is sent"
    )
    tls_ca_file: Path | None = Field(
        None,
        description="PEM file with the authorities that may sign the endpoint's certificate; null:"
        " those of the system",
    )
    prompt: Question = Field(
        _QUESTION, description="question; {action} stands for the name of the action"
    )
    prompts: dict[str, Question] = Field({}, description="questions of single actions, by label")
    actions: tuple[str, ...] = Field((), description="actions to look at; empty: all")
    cameras: tuple[str, ...] = Field((), description="cameras to look at; empty: all")
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="lowest confidence of actions to look at"
    )
    max_confidence: float = Field(
        1.0, ge=0, le=1, description="highest confidence of actions to look at"
    )
    frames: int = Field(
        4, ge=1, le=8, description="number of frames of the clip that are sent, evenly spread"
    )
    width: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="width in pixels to which frames are scaled; null: that of the network's input",
    )
    quality: int = Field(90, ge=1, le=100, description="JPEG quality")
    timeout_seconds: float = Field(
        20.0, gt=0, le=300, description="maximum time of a request, until its answer is complete"
    )
    max_waiting: int = Field(
        16, ge=1, le=1000, description="maximum number of waiting looks; more are dropped"
    )
    max_per_minute: int = Field(
        30, ge=1, le=6000, description="maximum number of looks in a minute; more are dropped"
    )
    max_response_bytes: int = Field(
        65_536, ge=1024, le=65_536, description="maximum size of an answer; larger ones are dropped"
    )
    max_tokens: int = Field(
        200, ge=16, le=4096, description="maximum length of an answer, in tokens of the model"
    )
    drain_seconds: float = Field(
        5.0,
        ge=0,
        le=20,
        description="maximum time at shutdown to wait for answers; later ones are dropped",
    )

    @model_validator(mode="after")
    def _check(self) -> VerifyConfig:
        if self.endpoint is not None and self.model is None:
            raise ValueError("endpoint needs model, the name of the model there")
        if self.min_confidence > self.max_confidence:
            raise ValueError(
                f"min_confidence ({self.min_confidence}) must not be above max_confidence"
                f" ({self.max_confidence})"
            )
        if self.tls_ca_file is not None and not is_file(self.tls_ca_file):
            raise ValueError(f"tls_ca_file not found: {self.tls_ca_file}")
        return self

    @property
    def is_on(self) -> bool:
        """Whether second looks are taken."""
        return self.endpoint is not None

    def check_labels(self, labels: Sequence[str]) -> None:
        """Check that every action named here is one that the weights know.

        Raises:
            ConfigError: one is not; the message names it.
        """
        for setting, names in (("actions", self.actions), ("prompts", tuple(self.prompts))):
            unknown = sorted(set(names) - set(labels))
            if unknown:
                raise ConfigError(
                    f"verify.{setting}: the weights have no action {', '.join(unknown)}; they have"
                    f" {', '.join(labels)}"
                )

    def question(self, action: str) -> str:
        """Return the question about an action."""
        return self.prompts.get(action, self.prompt).replace("{action}", action)

    def api_key(self) -> str | None:
        """Return the key of the endpoint; None if no file is named.

        Raises:
            ConfigError: the file cannot be read, is empty or is not plain ASCII.
        """
        if self.api_key_file is None:
            return None
        return read_token("verify.api_key_file", self.api_key_file)
