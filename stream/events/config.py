"""Settings of events: thresholds, outbox, broker, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from configs import BrokerError, OutputPath, StrictModel, is_file
from model.detection import DetectionConfig

__all__ = ["EventConfig", "KafkaConfig", "OutboxConfig", "SnapshotConfig"]


class EventConfig(DetectionConfig):
    """From probabilities to events."""

    top_k: int = Field(
        3, ge=1, le=20, description="how many of the likeliest actions each event lists"
    )


class OutboxConfig(StrictModel):
    """Where events are stored until the broker has them."""

    path: OutputPath = Field(
        Path("outbox.db"), description="database file; its folder must exist or be creatable"
    )
    max_events: int = Field(1_000_000, ge=1, description="how many events are kept at most")
    when_full: Literal["drop_oldest"] = Field(
        "drop_oldest",
        description="drop the oldest `updated` first; if there is none, the oldest event",
    )


class KafkaConfig(StrictModel):
    """The broker. Without `bootstrap` nothing is published and the outbox is where events end."""

    bootstrap: tuple[str, ...] = Field((), description="host:port of one or more brokers")
    topic: str = Field(
        "action-events", description="topic to publish to", pattern=r"^[A-Za-z0-9._-]{1,249}$"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="whether to encrypt (SSL) and to log in (SASL)"
    )
    create_topic: bool = Field(
        True,
        description="create a missing topic; otherwise events wait until somebody creates it",
    )
    partitions: int = Field(
        -1, ge=-1, le=10_000, description="of a topic created here; -1 leaves it to the broker"
    )
    replication: int = Field(
        -1, ge=-1, le=100, description="of a topic created here; -1 leaves it to the broker"
    )
    ssl_cafile: str | None = Field(None, description="certificate authorities to trust, PEM")
    ssl_certfile: str | None = Field(
        None, description="our own certificate, PEM, for brokers that want one from clients"
    )
    ssl_keyfile: str | None = Field(
        None, description="private key of ssl_certfile, PEM, if it is not in the same file"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="how to log in"
    )
    sasl_username: str | None = Field(None, description="user name")
    sasl_password: SecretStr | None = Field(None, description="password; never printed")
    sasl_password_file: Path | None = Field(
        None, description="file with the password, instead of sasl_password"
    )
    request_timeout_seconds: float = Field(
        30.0, ge=1, le=600, description="a request without an answer is repeated after so long"
    )
    flush_seconds: float = Field(
        5.0,
        ge=0,
        description="wait so long for the broker at the end; what is left stays in the outbox",
    )

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _split(cls, addresses: Any) -> Any:
        """Accept several in one text, as Kafka's own tools write them."""
        if not isinstance(addresses, str):
            return addresses
        return [address.strip() for address in addresses.split(",") if address.strip()]

    @field_validator("bootstrap")
    @classmethod
    def _check_bootstrap(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            host, _, port = address.rpartition(":")
            is_number = port.isascii() and port.isdigit()
            if not host or "," in host or not is_number or not 0 < int(port) < 65536:
                raise ValueError(f"{address.rpartition('@')[2]!r} is not host:port")
        return addresses

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
                f" {self.security_protocol}: nobody would log in"
            )

    def _check_encryption(self) -> None:
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            file = getattr(self, name)
            if file is not None and not is_file(file):
                raise ValueError(f"{name} not found: {file}")
            if file is not None and not self.security_protocol.endswith("SSL"):
                raise ValueError(
                    f"{name} needs security_protocol SSL or SASL_SSL, not {self.security_protocol}:"
                    " nothing would be encrypted"
                )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile needs ssl_certfile, the certificate that it belongs to")

    def connection(self) -> dict[str, Any]:
        """Return the settings that producer, consumer and admin client share.

        Raises:
            BrokerError: the file of the password cannot be read.
        """
        password = self.sasl_password.get_secret_value() if self.sasl_password else None
        if self.sasl_password_file is not None:
            try:
                password = self.sasl_password_file.read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise BrokerError(
                    f"kafka.sasl_password_file {self.sasl_password_file} cannot be read: {error}"
                ) from None
        return {
            "bootstrap_servers": list(self.bootstrap),
            "security_protocol": self.security_protocol,
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": password,
        }


class SnapshotConfig(StrictModel):
    """Pictures of events, one for each action."""

    enabled: bool = Field(
        False, description="keep a picture of each action; events then carry the field `snapshot`"
    )
    path: OutputPath = Field(
        Path("snapshots"), description="folder of the pictures; it holds a folder for each camera"
    )
    width: int = Field(
        640, ge=64, le=7680, description="frames that are wider are scaled down to it, in pixels"
    )
    quality: int = Field(85, ge=1, le=100, description="quality of the JPEG")
    activation: bool = Field(
        False,
        description="paint what the network looks at; costs a run of the network for each picture",
    )
    keep_days: float = Field(7.0, gt=0, le=36500, description="delete older pictures")
    keep_megabytes: float = Field(1000.0, gt=0, description="beyond it, delete the oldest pictures")
