"""Settings of MQTT servers that get events (list `mqtt`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from configs import StrictModel, has_controls, is_file, no_controls
from configs.secret_files import read_secret_file
from stream.sinks.config import SinkConfig

__all__ = ["EVENT_PLACEHOLDERS", "MqttConfig", "filled_topic"]

EVENT_PLACEHOLDERS = ("camera", "action", "kind")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NOT_IN_LEVEL = re.compile(r"[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MAX_TEMPLATE = 1000


def filled_topic(template: str, **values: str) -> str:
    """Return a topic with the values in the place of `{name}`.

    What may not stand in a level of a topic (wildcards, slashes, control characters) becomes `_`.
    """
    return _PLACEHOLDER.sub(lambda found: _NOT_IN_LEVEL.sub("_", values[found[1]]) or "_", template)


def _check_template(template: str, allowed: tuple[str, ...]) -> str:
    names = _PLACEHOLDER.findall(template)
    rest = _PLACEHOLDER.sub("", template)
    if unknown := [name for name in names if name not in allowed]:
        raise ValueError(
            f"has {{{unknown[0]}}}; a topic may have {', '.join(f'{{{name}}}' for name in allowed)}"
        )
    if has_controls(template) or any(sign in rest for sign in "+#{}"):
        raise ValueError("has a character that topics cannot have: + # { } or a control character")
    if not template or template.startswith("$") or len(template) > _MAX_TEMPLATE:
        raise ValueError(f"must have 1 to {_MAX_TEMPLATE} characters and not begin with $")
    return template


EventTopic = Annotated[str, AfterValidator(lambda text: _check_template(text, EVENT_PLACEHOLDERS))]
StatusTopic = Annotated[str, AfterValidator(lambda text: _check_template(text, ("client_id",)))]


class MqttConfig(SinkConfig, StrictModel):
    """An MQTT 5 server that gets events with quality of service 1."""

    url: str = Field(description="mqtts://host[:8883], or mqtt://host[:1883] without encryption")
    topic: EventTopic = Field(
        "cidc/events/{camera}/{action}/{kind}",
        description="topic of an event; {camera}, {action} and {kind} stand for its values",
    )
    status_topic: StatusTopic | None = Field(
        "cidc/status/{client_id}",
        description="topic of a retained message that says whether this program is connected;"
        " null: none",
    )
    online: str = Field(
        "online", min_length=1, max_length=1000, description="that message while it is connected"
    )
    offline: str = Field(
        "offline",
        min_length=1,
        max_length=1000,
        description="that message afterwards; the server sends it if the connection is lost",
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="name of this client, which no other client of the server may have; null: made"
        " of the host name, the path of the outbox and the sink's name",
    )
    username: str | None = Field(None, description="user name")
    password: SecretStr | None = Field(None, description="password; never printed")
    password_file: Path | None = Field(
        None, description="file with the password, instead of password"
    )
    ca_file: Path | None = Field(
        None, description="PEM file with the trusted certificates; null: the public authorities"
    )
    cert_file: Path | None = Field(
        None, description="PEM file with the client certificate, for servers that require one"
    )
    key_file: Path | None = Field(
        None, description="PEM file with the private key, if it is not in cert_file"
    )
    keepalive_seconds: int = Field(
        30, ge=5, le=3600, description="a connection that is silent for longer is checked"
    )
    timeout_seconds: float = Field(
        10.0,
        ge=0.1,
        le=300,
        description="maximum time to connect, and to wait for the next acknowledgement",
    )
    max_in_flight: int = Field(
        100,
        ge=1,
        le=1000,
        description="maximum number of events that wait for their acknowledgement at once; the"
        " server may ask for less",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return _checked_url(url)

    @field_validator("client_id", "username", "online", "offline")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        return None if text is None else no_controls(text)

    @model_validator(mode="after")
    def _check(self) -> MqttConfig:
        for name in ("password_file", "ca_file", "cert_file", "key_file"):
            file = getattr(self, name)
            if file is not None and not is_file(file):
                raise ValueError(f"{name} not found: {file}")
            if file is not None and name != "password_file" and not self.is_encrypted:
                raise ValueError(f"{name} needs an address with mqtts")
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        has_password = self.password is not None or self.password_file is not None
        if has_password and self.username is None:
            raise ValueError("a password needs username")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file, the certificate that it belongs to")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        """Host name or address of the server."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """Port of the server."""
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    def secret(self) -> str | None:
        """Return the password; None if there is none.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        if self.password_file is not None:
            return read_secret_file(f"mqtt.{self.name}.password_file", self.password_file)
        return None if self.password is None else self.password.get_secret_value()


def _checked_url(url: str) -> str:
    """Return an address of an MQTT server without blanks around it.

    Raises:
        ValueError: it is something else; the message does not show it.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port, scheme = parts.hostname or "", parts.port, parts.scheme
    except ValueError:
        host, port, scheme = "", None, ""
    if "@" in url:
        raise ValueError("url has a user name or password; use username and password_file")
    is_host = re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", host)
    if scheme not in _PORTS or not is_host or port == 0 or has_controls(url):
        raise ValueError("url must be mqtts://host[:port] or mqtt://host[:port]")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("url has more than host and port; remove the rest")
    return f"{scheme}://{parts.netloc}"
