"""Settings of webhooks (list `webhooks`)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from configs import ConfigError, StrictModel, has_controls, is_file
from configs.secret_files import read_secret_file, read_token
from stream.http_client import parse_headers
from stream.sinks.config import SinkConfig
from stream.sinks.public_addresses import is_private_host
from stream.sinks.signature import parse_secret, parse_secrets

__all__ = ["WebhookConfig", "origin_of"]

# What the request itself defines.
_OWN_HEADERS = re.compile(
    "host|content-.*|transfer-encoding|connection|upgrade|te|trailer|expect|traceparent|webhook-.*",
    re.IGNORECASE,
)
_FILES = ("secret_file", "headers_file", "token_file", "ca_file")


class WebhookConfig(SinkConfig, StrictModel):
    """A receiver of events over HTTP; requests are signed as Standard Webhooks says."""

    url: str = Field(
        description="https address that gets the events; errors and logs show only its host"
    )
    secret: SecretStr | None = Field(
        None, description="secret that signs the requests: whsec_ and 24 to 64 bytes in base64"
    )
    secret_file: Path | None = Field(
        None,
        description="file with the secret, instead of secret; with several lines, each secret"
        " signs, so that a secret can be replaced; a change needs no restart",
    )
    token_file: Path | None = Field(
        None, description="file with a bearer token for the header Authorization"
    )
    headers_file: Path | None = Field(
        None, description="file with further headers, one `Name: value` on each line"
    )
    max_batch_events: int = Field(
        1,
        ge=1,
        le=1000,
        description="maximum number of events in one request; 1: the body is the event; more: the"
        " body is a list of events",
    )
    timeout_seconds: float = Field(
        10.0, ge=0.1, le=300, description="maximum time for one request and its answer"
    )
    allow_private: bool = Field(
        False,
        description="whether the address may lead to this machine or a private network",
    )
    ca_file: Path | None = Field(
        None, description="PEM file with the trusted certificates; null: the public authorities"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return _checked_url(url)

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            parse_secret(secret.get_secret_value())
        return secret

    @model_validator(mode="after")
    def _check(self) -> WebhookConfig:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("give secret or secret_file; receivers verify requests with it")
        for name in _FILES:
            file = getattr(self, name)
            if file is not None and not is_file(file):
                raise ValueError(f"{name} not found: {file}")
        if self.ca_file is not None and not self.is_encrypted:
            raise ValueError("ca_file needs an address with https")
        host = urlsplit(self.url).hostname or ""
        if not self.allow_private and is_private_host(host):
            raise ValueError(
                f"url leads to {host}, which is not a public address; set allow_private: true if"
                " events may go there"
            )
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether requests are encrypted."""
        return self.url.startswith("https:")

    @property
    def has_login(self) -> bool:
        """Whether requests carry headers that may be secret."""
        return self.token_file is not None or self.headers_file is not None

    @property
    def address(self) -> str:
        """Scheme, host and port; path and query may hold a secret."""
        return origin_of(self.url)

    def keys(self) -> list[bytes]:
        """Return the keys that sign a request.

        Raises:
            ConfigError: the file cannot be read or has something else in it.
        """
        if self.secret is not None:
            return [parse_secret(self.secret.get_secret_value())]
        assert self.secret_file is not None
        setting = f"webhooks.{self.name}.secret_file"
        try:
            return parse_secrets(read_secret_file(setting, self.secret_file))
        except ValueError as error:
            raise ConfigError(f"{setting} {self.secret_file}: {error}") from None

    def further_headers(self) -> dict[str, str]:
        """Return the headers of `headers_file` and `token_file`.

        Raises:
            ConfigError: a file cannot be read or has something else in it.
        """
        headers: dict[str, str] = {}
        if self.headers_file is not None:
            setting = f"webhooks.{self.name}.headers_file"
            try:
                headers = parse_headers(read_secret_file(setting, self.headers_file), _OWN_HEADERS)
            except ValueError as error:
                raise ConfigError(f"{setting} {self.headers_file}: {error}") from None
        if self.token_file is not None:
            setting = f"webhooks.{self.name}.token_file"
            token = read_token(setting, self.token_file)
            if any(name.lower() == "authorization" for name in headers):
                raise ConfigError(
                    f"{setting}: headers_file has Authorization, too; remove one of them"
                )
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _checked_url(url: str) -> str:
    """Return an address without blanks around it.

    Raises:
        ValueError: it is not an address of a web server; the message shows no secret.
    """
    url = url.strip()
    if has_controls(url) or " " in url or not url.isascii():
        raise ValueError(
            "url has a blank, a control character or a letter outside ASCII; percent-encode it, and"
            " write the host name in its ASCII form"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("url must be https://host[:port]/path (or http)")
    if "@" in parts.netloc:
        raise ValueError(
            "url has a user name or password; put them into headers_file as"
            " `Authorization: Basic ...`"
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", host):
        raise ValueError("url has a host name with characters that host names cannot have")
    if parts.fragment:
        raise ValueError("url has a part after #, which is never sent; remove it")
    return parts._replace(scheme=parts.scheme.lower()).geturl()


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
