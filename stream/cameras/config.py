"""One camera as people describe it: in the configuration and over the HTTP interface."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from configs import StrictModel, exists
from stream.events.config import EventConfig
from stream.ingest.config import SourceConfig
from stream.types import View

__all__ = ["CameraConfig", "RegionConfig", "redact_url"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")


class RegionConfig(StrictModel):
    """A rectangle of the upright picture, in shares of its width and height."""

    id: str = Field(description="name in events", pattern=NAME)
    left: float = Field(0.0, ge=0, le=1, description="left edge; 0 is the picture's")
    top: float = Field(0.0, ge=0, le=1, description="upper edge")
    right: float = Field(1.0, ge=0, le=1, description="right edge; 1 is the picture's")
    bottom: float = Field(1.0, ge=0, le=1, description="lower edge")

    @model_validator(mode="after")
    def _check(self) -> RegionConfig:
        if self.right - self.left < 0.05 or self.bottom - self.top < 0.05:
            raise ValueError(
                f"region {self.id}: right must be above left and bottom above top, by 0.05 at least"
            )
        return self

    def pixels(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of this size in pixels; at least one each."""
        left, top = (
            min(round(share * size), size - 1)
            for share, size in ((self.left, width), (self.top, height))
        )
        right = max(left + 1, round(self.right * width))
        bottom = max(top + 1, round(self.bottom * height))
        return slice(top, bottom), slice(left, right)


class CameraConfig(StrictModel):
    """One camera."""

    id: str = Field(description="name in events and metrics", pattern=NAME)
    url: str = Field(
        repr=False,
        description="file path, /dev/video0, or an rtsp, rtsps, http, https, tcp or udp address",
        min_length=1,
        max_length=4096,
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries its packets")
    pace: Literal["realtime", "fast"] = Field(
        "realtime", description="files: at the speed of their timestamps, or as fast as possible"
    )
    loop: bool = Field(False, description="files: start again at the end")
    hop: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="a clip is due every this many sampled frames; null for clip.hop",
    )
    max_gap_seconds: float | None = Field(
        None,
        gt=0,
        description="a longer silence starts the clip anew; null for clip.max_gap_seconds",
    )
    regions: tuple[RegionConfig, ...] = Field(
        (), max_length=16, description="parts to be analysed apart; none for the whole picture"
    )
    events: EventConfig | None = Field(
        None, description="event settings of this camera; null for the section events"
    )
    source: SourceConfig | None = Field(
        None, description="how this camera is opened and kept open; null for the section source"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        url = url.strip()
        if not url or "\0" in url:
            raise ValueError("an address is not empty and holds no zero byte")
        scheme = _scheme(url)
        if scheme is None:
            return url
        if scheme == "file":
            return cls._check_url(
                unquote(re.sub(r"^file:(//(localhost(?=/))?)?", "", url, flags=re.IGNORECASE))
            )
        if scheme not in _NETWORK_SCHEMES:
            raise ValueError(
                f"unknown scheme {scheme!r} in {redact_url(url)}; use a file path or one of"
                f" {', '.join(_NETWORK_SCHEMES)}"
            )
        try:
            parts = urlsplit(url)
            host = parts.hostname
            port = parts.port
        except ValueError:
            raise ValueError(
                f"{redact_url(url)} is not a valid address; write {scheme}://host[:port]/path, the"
                " port a number up to 65535, and in user name and password %23 for #, %2F for /,"
                " %3A for :, %40 for @"
            ) from None
        if not host and not (scheme == "udp" and port):  # udp://@:5000 listens
            raise ValueError(
                f"{redact_url(url)} has no host name; write {scheme}://host[:port]/path"
            )
        return url

    @field_validator("regions")
    @classmethod
    def _check_regions(cls, regions: tuple[RegionConfig, ...]) -> tuple[RegionConfig, ...]:
        ids = [region.id for region in regions]
        if len(set(ids)) < len(ids):
            raise ValueError(f"regions: ids must differ, got {', '.join(ids)}")
        return regions

    @property
    def kind(self) -> Literal["file", "device", "network"]:
        """What `url` is."""
        if _scheme(self.url) is not None:
            return "network"
        return "device" if re.fullmatch(r"/dev/video\d+", self.url) else "file"

    @property
    def is_file(self) -> bool:
        """Whether it is read from a file, which waits for us; cameras do not."""
        return self.kind == "file"

    @property
    def views(self) -> tuple[View, ...]:
        """What clips are cut from."""
        return tuple(View(self.id, region.id) for region in self.regions) or (View(self.id),)

    def problem(self) -> str | None:
        """What is certainly wrong with it, found without opening it; None if nothing is."""
        if self.is_file and not exists(self.url):
            return f"camera {self.id}: file not found: {redact_url(self.url)}"
        if self.is_file and Path(self.url).is_dir():
            return f"camera {self.id}: {redact_url(self.url)} is a folder, not a video"
        problem = self.source.problem() if self.source is not None else None
        return f"camera {self.id}: {problem}" if problem else None


def redact_url(url: str) -> str:
    """The address without user name, password and query, for logs, metrics and events."""
    scheme = _scheme(url)
    rest = url
    if scheme is not None:
        rest = url.partition(":")[2].lstrip("/")
    elif not re.search(r":.*@", url):
        return _mask(url)  # a file
    # Up to the last @: a password that was not percent-encoded may hold an @, a slash or a question
    # mark itself.
    address = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return _mask(f"{scheme}://{address}" if scheme else address)


def _mask(address: str) -> str:
    """Some cameras take user name and password in the path."""
    return re.sub(
        r"((?:user(?:name)?|pass(?:word)?|pwd|token|key)=)[^/&;_]*",
        r"\1***",
        address,
        flags=re.IGNORECASE,
    )


def _scheme(url: str) -> str | None:
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*):/", url)
    return match.group(1).lower() if match else None
