"""Settings of opening, reading and sampling cameras."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from configs import StrictModel, is_file
from model.media.clip_cutter import DEFAULT_STRIDE
from model.media.source_rules import DEFAULT_MAX_PIXELS

__all__ = ["ClipConfig", "SourceConfig"]


class SourceConfig(StrictModel):
    """How cameras are opened and kept open."""

    renamed: ClassVar[Mapping[str, str]] = {
        "backoff_first_seconds": "backoff_initial_seconds",
        "backoff_most_seconds": "backoff_max_seconds",
        "queue_seconds": "max_queue_seconds",
        "queue_megabytes": "max_queue_megabytes",
    }

    open_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="give up opening after this long"
    )
    read_timeout_seconds: float = Field(
        5.0, gt=0, le=300, description="a camera without a packet for this long is reopened"
    )
    backoff_initial_seconds: float = Field(
        0.5, gt=0, le=60, description="first pause before reopening; doubles each time"
    )
    backoff_max_seconds: float = Field(
        30.0, gt=0, le=3600, description="longest pause before reopening"
    )
    max_queue_seconds: float = Field(
        4.0,
        gt=0,
        le=60,
        description=(
            "coded video of one camera that may wait for its decoder; beyond that whole groups of"
            " pictures are dropped"
        ),
    )
    max_queue_megabytes: float = Field(
        32.0, gt=0, le=1024, description="size of the coded video of one camera that may wait"
    )
    camera_clock_seconds: float = Field(
        10.0,
        ge=0,
        description=(
            "events take the camera's clock (RTCP) if it is this close to ours; 0: always ours"
        ),
    )
    tls_verify: bool = Field(
        False,
        description="rtsps, rtmps, https: refuse certificates not signed by an authority",
    )
    tls_ca_file: str | None = Field(None, description="certificate authorities, PEM")
    redirects: bool = Field(
        False,
        description=(
            "follow redirects and playlists of a camera's server to other hosts, which may be hosts"
            " of the internal network"
        ),
    )
    max_pixels: int = Field(
        DEFAULT_MAX_PIXELS,
        ge=4096,
        le=16_384 * 16_384,
        description="most pixels of a frame; larger ones are not decoded. The default is 8K UHD",
    )

    ffmpeg: Path | None = Field(
        None,
        description=(
            "FFmpeg program that reads srt addresses; null: that of the extra srt. A camera added"
            " over HTTP cannot name one"
        ),
    )
    decoder: Literal["auto", "nvdec", "dali", "software"] = Field(
        "auto",
        description=(
            "who decodes; software takes over what they cannot decode. auto: with a GPU, NVDEC, or"
            " DALI if PyNvVideoCodec cannot be used; without a GPU, software. nvdec: an error if it"
            " cannot be used. dali: also on the CPU (VP8, VP9, MJPEG)"
        ),
    )
    max_gop_seconds: float = Field(
        4.0,
        gt=0,
        le=30,
        description=(
            "DALI decodes whole groups of pictures, from one key frame to the next; a camera with"
            " longer ones is decoded in software"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> SourceConfig:
        if self.backoff_initial_seconds > self.backoff_max_seconds:
            raise ValueError("backoff_initial_seconds must not be above backoff_max_seconds")
        if self.tls_ca_file is not None and not self.tls_verify:
            raise ValueError("tls_ca_file needs tls_verify: true, otherwise it has no effect")
        return self

    def problem(self) -> str | None:
        """What is certainly wrong with it; None if nothing is."""
        if self.tls_ca_file is not None and not is_file(self.tls_ca_file):
            return f"source.tls_ca_file: file not found: {self.tls_ca_file}"
        if self.ffmpeg is not None and not self.ffmpeg.is_absolute():
            return f"source.ffmpeg: {self.ffmpeg} must be a whole path, from / on"
        if self.ffmpeg is not None and not (
            self.ffmpeg.is_file() and os.access(self.ffmpeg, os.X_OK)
        ):
            return f"source.ffmpeg: there is no program {self.ffmpeg}"
        return None


class ClipConfig(StrictModel):
    """The clips that are cut from every camera."""

    fps: float = Field(
        15.0,
        gt=0,
        le=120,
        description="sampled frames per second; must be what the weights were trained with",
    )
    hop: int = Field(
        DEFAULT_STRIDE,
        ge=1,
        le=1024,
        description="stride: a clip is due every this many sampled frames",
    )
    max_gap_seconds: float = Field(
        1.0,
        gt=0,
        description=(
            "a longer silence restarts the clip; a shorter one repeats the last frame. For slow"
            " cameras it is at least two and a half frame intervals"
        ),
    )
    blind_after_seconds: float = Field(
        30.0,
        gt=0,
        description="a camera that runs and gives no clip for this long is reported as blind",
    )
