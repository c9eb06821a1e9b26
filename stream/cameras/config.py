"""One camera as people describe it: in the configuration and over the HTTP interface."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from configs import StrictModel, exists
from stream.cameras.address import check_address, kind_of_address
from stream.cameras.redaction import SECRET_REFERENCE, plain_secrets, redact_url
from stream.cameras.stream_names import srt_options
from stream.events.config import EventConfig
from stream.ingest.config import SourceConfig

__all__ = [
    "SECRET_REFERENCE",
    "CameraConfig",
    "RegionConfig",
    "View",
    "kind_of_address",
    "plain_secrets",
    "redact_url",
    "srt_options",
]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_MIN_REGION = 0.05


class View(NamedTuple):
    """What clips are cut from: a camera's whole frame, or one of its regions of interest."""

    camera_id: str
    region: str | None = None


class RegionConfig(StrictModel):
    """A rectangle of the upright frame, in fractions of its width and height."""

    id: str = Field(description="name in events", pattern=NAME)
    left: float = Field(0.0, ge=0, le=1, description="left edge; 0 is the frame's")
    top: float = Field(0.0, ge=0, le=1, description="upper edge; 0 is the frame's")
    right: float = Field(1.0, ge=0, le=1, description="right edge; 1 is the frame's")
    bottom: float = Field(1.0, ge=0, le=1, description="lower edge; 1 is the frame's")

    @model_validator(mode="after")
    def _check(self) -> RegionConfig:
        if self.right - self.left < _MIN_REGION or self.bottom - self.top < _MIN_REGION:
            raise ValueError(
                f"region {self.id}: right must be above left and bottom above top, by"
                f" {_MIN_REGION} at least"
            )
        return self

    def pixels(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of a frame of this size in pixels; at least one each."""
        left = min(round(self.left * width), width - 1)
        top = min(round(self.top * height), height - 1)
        right = max(left + 1, round(self.right * width))
        bottom = max(top + 1, round(self.bottom * height))
        return slice(top, bottom), slice(left, right)


class CameraConfig(StrictModel):
    """One camera."""

    id: str = Field(description="name in events and metrics", pattern=NAME)
    url: str = Field(
        repr=False,
        description=(
            "file path, /dev/video0, or an rtsp, rtsps, rtmp, rtmps, srt, http, https, tcp or udp"
            " address; push: if a program pushes the frames (Pipeline.push)"
        ),
        min_length=1,
        max_length=4096,
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries its packets")
    pace: Literal["realtime", "fast"] = Field(
        "realtime",
        description=(
            "recordings: at the speed of their timestamps, or as fast as possible; pushed frames:"
            " realtime for those of a live camera, fast for those of a recording"
        ),
    )
    loop: bool = Field(False, description="recordings: start again at the end")
    hop: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="stride: sampled frames from one clip to the next; null for clip.hop",
    )
    max_gap_seconds: float | None = Field(
        None,
        gt=0,
        description="a longer silence restarts the clip; null for clip.max_gap_seconds",
    )
    regions: tuple[RegionConfig, ...] = Field(
        (), max_length=16, description="parts to analyse separately; none for the whole frame"
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
        return check_address(url)

    @field_validator("regions")
    @classmethod
    def _check_regions(cls, regions: tuple[RegionConfig, ...]) -> tuple[RegionConfig, ...]:
        ids = [region.id for region in regions]
        if len(set(ids)) < len(ids):
            raise ValueError(f"regions: ids must differ, got {', '.join(ids)}")
        return regions

    @property
    def kind(self) -> Literal["file", "device", "network", "push"]:
        """What `url` names."""
        return kind_of_address(self.url)

    @property
    def is_file(self) -> bool:
        """Whether its address names a file of this machine."""
        return self.kind == "file"

    @property
    def is_on_web(self) -> bool:
        """Whether a web server sends its video: a recording, a playlist or a live stream."""
        return self.url.lower().startswith(("http://", "https://"))

    @property
    def views(self) -> tuple[View, ...]:
        """What clips are cut from: the regions, or the whole frame."""
        return tuple(View(self.id, region.id) for region in self.regions) or (View(self.id),)

    @property
    def smallest_fraction(self) -> float:
        """The shortest side of its regions, as a fraction of the frame; 1 without regions."""
        sides = [
            min(region.right - region.left, region.bottom - region.top) for region in self.regions
        ]
        return min(sides, default=1.0)

    def problem(self) -> str | None:
        """What is certainly wrong with it, found without opening it; None if nothing is."""
        if self.is_file and not exists(self.url):
            return f"camera {self.id}: file not found: {redact_url(self.url)}"
        if self.is_file and Path(self.url).is_dir():
            return f"camera {self.id}: {redact_url(self.url)} is a folder, not a video"
        problem = self.source.problem() if self.source is not None else None
        return f"camera {self.id}: {problem}" if problem else None
