"""Settings of traces (section `tracing`)."""

from __future__ import annotations

import importlib.util
import urllib.parse
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from configs import ConfigError, StrictModel, is_file, no_controls
from configs.private_files import warn_of_exposed_file
from configs.secret_files import read_secret_file
from stream.http_client import parse_headers

__all__ = ["TracingConfig"]

_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")


def _check_endpoint(endpoint: str) -> str:
    # The message must not show the value: it may hold a password or a key.
    example = "such as http://127.0.0.1:4318/v1/traces"
    try:
        parts = urllib.parse.urlsplit(endpoint)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError(f"must be the OTLP/HTTP address of a collector, {example}") from None
    if parts.scheme not in ("http", "https") or not has_host or parts.fragment:
        raise ValueError(f"must be the OTLP/HTTP address of a collector, {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no user name and no password; send a header of headers_file")
    return endpoint


Endpoint = Annotated[str, AfterValidator(no_controls), AfterValidator(_check_endpoint)]


class TracingConfig(StrictModel):
    """Settings of traces; without `endpoint` there are none."""

    endpoint: Endpoint | None = Field(
        None,
        description="where spans are sent: OTLP over HTTP with protobuf, the whole address, such as"
        " http://127.0.0.1:4318/v1/traces; null: no tracing",
    )
    headers_file: Path | None = Field(
        None,
        description="file with headers for the collector, one `Name: value` per line, such as"
        " Authorization",
    )
    tls_ca_file: Path | None = Field(
        None,
        description="PEM file with the authorities that sign the collector's certificate; null:"
        " those of this machine",
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="fraction of the actions whose events are traced"
    )
    service_name: str = Field(
        "cidc-stream",
        min_length=1,
        max_length=255,
        description="name of this service in the traces (service.name)",
    )
    timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="maximum time to wait for the collector, also at shutdown"
    )
    max_queue_spans: int = Field(
        4096,
        ge=64,
        le=1_000_000,
        description="maximum number of spans that wait for the collector; more are dropped; also"
        " the maximum number of events whose acknowledgement is waited for",
    )

    @model_validator(mode="after")
    def _check(self) -> TracingConfig:
        for name in ("headers_file", "tls_ca_file"):
            file = getattr(self, name)
            if file is not None and self.endpoint is not None and not is_file(file):
                raise ValueError(f"{name} not found: {file}")
        return self

    @property
    def address(self) -> str:
        """The endpoint without its query, for log lines."""
        parts = urllib.parse.urlsplit(self.endpoint or "")
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def check(self) -> None:
        """Check that traces could be sent; nothing is imported.

        Raises:
            ConfigError: the extra is not installed, or the file of headers cannot be used.
        """
        if self.endpoint is None:
            return
        if not all(_is_installed(package) for package in _PACKAGES):
            raise ConfigError(
                "tracing.endpoint needs the packages of OpenTelemetry; install the extra: pip"
                " install 'cidc-stream[otel]', or remove tracing.endpoint"
            )
        self.headers()
        warn_of_exposed_file("tracing.headers_file", self.headers_file)

    def headers(self) -> dict[str, str]:
        """Read the headers of `headers_file`; values are never shown.

        Raises:
            ConfigError: the file cannot be read, or a line is not a header.
        """
        if self.headers_file is None:
            return {}
        setting = "tracing.headers_file"
        text = read_secret_file(setting, self.headers_file, may_be_empty=True)
        try:
            return parse_headers(text)
        except ValueError as error:
            raise ConfigError(f"{setting} {self.headers_file}: {error}") from None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
