"""Settings of events: thresholds, outbox, broker, pictures.

`EventConfig` is imported when it is first used: programs that read events do not need the package
`model`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from configs import BrokerError, OutputPath, StrictModel, is_file, no_controls
from stream.events.broker_addresses import bootstrap_problem, login_problem
from stream.sinks.config import EventFilter

if TYPE_CHECKING:
    from stream.events.event_config import EventConfig

__all__ = [
    "BrokerAddresses",
    "EventConfig",
    "KafkaConfig",
    "OutboxConfig",
    "SnapshotConfig",
    "TopicName",
]
_MIN_HIDDEN = 3  # a shorter password is not looked for in texts: it may be a part of any word


class OutboxConfig(StrictModel):
    """Settings of the outbox, which stores events until all sinks have taken them."""

    path: OutputPath = Field(
        Path("outbox.db"), description="database file; a missing folder is created"
    )
    max_events: int = Field(
        1_000_000,
        ge=1,
        description="maximum number of events that wait for one sink, unless the sink has a maximum"
        " of its own, and of events that are kept because there is no sink",
    )
    when_full: Literal["drop_oldest"] = Field(
        "drop_oldest",
        description="drop the oldest `updated` events first, then the oldest other events",
    )


def _split_addresses(addresses: Any) -> Any:
    """Split a text with several comma-separated addresses, as Kafka's own tools accept."""
    if isinstance(addresses, (list, tuple)):
        texts = [each if isinstance(each, str) else None for each in addresses]
        if None in texts:
            return addresses
        addresses = ",".join(text or " " for text in texts)
    if not isinstance(addresses, str):
        return addresses
    return [address.strip() for address in addresses.split(",") if address.strip()]


def _check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if (problem := login_problem(addresses)) is not None:
        raise ValueError(problem)
    for address in addresses:
        if (problem := bootstrap_problem(address)) is not None:
            raise ValueError(problem)
    return addresses


def _check_topic(topic: str) -> str:
    if topic in (".", ".."):
        raise ValueError(f"topic {topic!r}: Kafka refuses this name; use another")
    return topic


# host:port of one or more brokers; a text with commas is accepted, too.
BrokerAddresses = Annotated[
    tuple[str, ...], BeforeValidator(_split_addresses), AfterValidator(_check_addresses)
]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$"), AfterValidator(_check_topic)]


class KafkaConfig(StrictModel):
    """Settings of the Kafka broker; without `bootstrap`, Kafka gets no events."""

    renamed: ClassVar[Mapping[str, str]] = {"flush_seconds": "drain_seconds"}

    bootstrap: BrokerAddresses = Field((), description="host:port of one or more brokers")
    topic: TopicName = Field("action-events", description="topic to publish to")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="whether to encrypt (SSL) and to log in (SASL)"
    )
    create_topic: bool = Field(
        True,
        description="create a missing topic; if false, events wait until it has been created",
    )
    partitions: int = Field(
        -1, ge=-1, le=10_000, description="partitions of a new topic; -1: the broker's default"
    )
    replication: int = Field(
        -1, ge=-1, le=100, description="replicas of a new topic; -1: the broker's default"
    )
    ssl_cafile: str | None = Field(None, description="PEM file with the trusted certificates")
    ssl_certfile: str | None = Field(
        None, description="PEM file with the client certificate, for brokers that require one"
    )
    ssl_keyfile: str | None = Field(
        None, description="PEM file with the private key, if it is not in ssl_certfile"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="login method"
    )
    sasl_username: str | None = Field(None, description="user name")
    sasl_password: SecretStr | None = Field(None, description="password; never printed")
    sasl_password_file: Path | None = Field(
        None, description="file with the password, instead of sasl_password"
    )
    request_timeout_seconds: float = Field(
        30.0, ge=1, le=600, description="time after which an unanswered request is sent again"
    )
    drain_seconds: float = Field(
        60.0,
        ge=0,
        description="maximum time at shutdown to send the waiting events; the rest stay stored",
    )
    filter: EventFilter = Field(EventFilter(), description="which events are sent")
    max_lag_events: int | None = Field(
        None,
        ge=1,
        description="maximum number of events that wait for the broker; beyond it, the oldest are"
        " dropped, `updated` first; null: outbox.max_events",
    )

    @field_validator("sasl_username")
    @classmethod
    def _check_username(cls, name: str | None) -> str | None:
        return None if name is None else no_controls(name)

    @field_validator("sasl_password")
    @classmethod
    def _check_password(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not _can_be_sent(password.get_secret_value()):
            raise ValueError("contains a zero byte, or a character that UTF-8 cannot represent")
        return password

    @model_validator(mode="after")
    def _check(self) -> KafkaConfig:
        if 0 in (self.partitions, self.replication):
            raise ValueError(
                "partitions and replication must be at least 1, or -1 to leave them to the broker"
            )
        self._check_login()
        self._check_encryption()
        return self

    def _check_login(self) -> None:
        if self.sasl_password is not None and self.sasl_password_file is not None:
            raise ValueError("give sasl_password or sasl_password_file, not both")
        if self.sasl_password_file is not None and not is_file(self.sasl_password_file):
            raise ValueError(f"sasl_password_file not found: {self.sasl_password_file}")
        password = self.sasl_password or self.sasl_password_file
        login = (self.sasl_mechanism, self.sasl_username, password)
        logs_in = self.security_protocol.startswith("SASL")
        if logs_in and None in login:
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username"
                " and sasl_password or sasl_password_file"
            )
        if not logs_in and login != (None, None, None):
            raise ValueError(
                "sasl_* needs security_protocol SASL_PLAINTEXT or SASL_SSL, not"
                f" {self.security_protocol}, which does not log in"
            )

    def _check_encryption(self) -> None:
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            file = getattr(self, name)
            if file is not None and not is_file(file):
                raise ValueError(f"{name} not found: {file}")
            if file is not None and not self.security_protocol.endswith("SSL"):
                raise ValueError(
                    f"{name} needs security_protocol SSL or SASL_SSL, not {self.security_protocol},"
                    " which does not encrypt"
                )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile needs ssl_certfile, the certificate that it belongs to")

    def connection(self) -> dict[str, Any]:
        """Return the connection settings shared by producer, consumer and admin client.

        Raises:
            BrokerError: the password file cannot be read.
        """
        return {
            "bootstrap_servers": list(self.bootstrap),
            "security_protocol": self.security_protocol,
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self._password(),
        }

    def _password(self) -> str | None:
        if self.sasl_password_file is None:
            return self.sasl_password.get_secret_value() if self.sasl_password else None
        file = self.sasl_password_file
        try:
            password = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise BrokerError(f"kafka.sasl_password_file {file} cannot be read: {error}") from None
        if not _can_be_sent(password):
            raise BrokerError(f"kafka.sasl_password_file {file} contains a zero byte; remove it")
        return password

    def redact(self, text: object) -> str:
        """Return a text of the broker or the client library without the password.

        A broker may repeat what it was sent in its refusal.
        """
        with contextlib.suppress(BrokerError):
            password = self._password()
            if password is not None and len(password) >= _MIN_HIDDEN:
                return str(text).replace(password, "***")
        return str(text)


def _can_be_sent(password: str) -> bool:
    return "\0" not in password and not any("\ud800" <= char <= "\udfff" for char in password)


class SnapshotConfig(StrictModel):
    """Settings of the pictures of events; one picture is kept for each action."""

    enabled: bool = Field(
        False, description="keep a picture of each action; events then carry the field `snapshot`"
    )
    path: OutputPath = Field(
        Path("snapshots"), description="folder of the pictures, with a subfolder for each camera"
    )
    width: int = Field(
        640, ge=64, le=7680, description="maximum width in pixels; wider frames are scaled down"
    )
    quality: int = Field(85, ge=1, le=100, description="JPEG quality")
    activation: bool = Field(
        False,
        description=(
            "draw on each picture which places speak for its action, and the action's name; needs"
            " an extra run of the network"
        ),
    )
    keep_days: float = Field(
        7.0, gt=0, le=36500, description="days after which a picture is deleted"
    )
    keep_megabytes: float = Field(
        1000.0, gt=0, description="maximum size of all pictures; the oldest are deleted first"
    )
    min_free_megabytes: float = Field(
        100.0,
        ge=0,
        description="room on the disk that is kept for events: with less, the oldest pictures are"
        " deleted and new ones are not stored; 0: no reserve",
    )


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name != "EventConfig":
            raise AttributeError(f"module 'stream.events.config' has no attribute {name!r}")
        return importlib.import_module("stream.events.event_config").EventConfig
