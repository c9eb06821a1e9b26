"""Settings of the HTTP server (section `http`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr, model_validator

from configs import ConfigError, OutputPath, StrictModel

__all__ = ["HttpConfig"]


def _check_host(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
        raise ValueError(
            "must be a host name without scheme, port and path, such as stream.example.org"
        )
    return name.lower()


HostName = Annotated[str, AfterValidator(_check_host)]


class HttpConfig(StrictModel):
    """Settings of the HTTP server: addresses, access and limits."""

    renamed: ClassVar[Mapping[str, str]] = {
        "most_body_bytes": "max_body_bytes",
        "most_connections": "max_connections",
    }

    enabled: bool = Field(True, description="serve metrics, health and cameras")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: all addresses")
    port: int = Field(9108, ge=0, le=65535, description="port to listen on; 0: any free port")
    probe_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="second port that serves only /metrics, /live, /ready and /startup;"
        " 0: any free port; null: no second port",
    )
    token: SecretStr | None = Field(
        None,
        description="bearer token that requests to /cameras must send;"
        " without a token, only programs on this machine may use /cameras",
    )
    token_file: Path | None = Field(
        None, description="file with the token; use it instead of token"
    )
    files: tuple[Path, ...] = Field(
        (),
        description="folders and files below which cameras added or changed over HTTP may name"
        " files and devices; empty: none",
    )
    hosts: tuple[HostName, ...] = Field(
        (),
        description="further names under which /metrics, /health and /openapi.json answer",
    )
    changes: OutputPath | None = Field(
        None,
        description="file that stores changes of cameras made over HTTP;"
        " null: the path of the outbox followed by .cameras.json",
    )
    max_body_bytes: int = Field(
        65_536, ge=1024, le=16_777_216, description="maximum size of a request body"
    )
    max_connections: int = Field(
        64, ge=4, le=4096, description="maximum number of open connections; the oldest is closed"
    )

    @model_validator(mode="after")
    def _check(self) -> HttpConfig:
        if self.probe_port and self.probe_port == self.port:
            raise ValueError(f"probe_port must differ from port; both are {self.port}")
        if self.token is not None and self.token_file is not None:
            raise ValueError("give token or token_file, not both")
        if self.token is not None:
            token = self.token.get_secret_value()
            if not token or not token.isascii() or token != token.strip():
                raise ValueError(
                    "token must be plain ASCII without spaces around it, and not empty"
                )
        return self

    def secret(self) -> str | None:
        """Return the token from `token` or `token_file`; None if neither is set.

        Raises:
            ConfigError: the file cannot be read, is empty or is not plain ASCII.
        """
        if self.token_file is None:
            return self.token.get_secret_value() if self.token else None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"http.token_file {self.token_file} cannot be read: {error}; "
                "name a text file that holds the token"
            ) from None
        if not token or not token.isascii():
            raise ConfigError(
                f"http.token_file {self.token_file} must hold a token of plain ASCII characters"
            )
        return token
