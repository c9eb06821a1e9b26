"""Settings of opening, reading and sampling cameras."""

from __future__ import annotations

from pydantic import Field, model_validator

from configs import StrictModel, is_file
from model.media.clip_cutter import DEFAULT_STRIDE

__all__ = ["ClipConfig", "SourceConfig"]


class SourceConfig(StrictModel):
    """How cameras are opened and kept open."""

    open_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="give up opening after this long"
    )
    read_timeout_seconds: float = Field(
        5.0, gt=0, le=300, description="a camera without a packet for this long is opened again"
    )
    backoff_first_seconds: float = Field(
        0.5, gt=0, le=60, description="first pause before opening again; doubles each time"
    )
    backoff_most_seconds: float = Field(
        30.0, gt=0, le=3600, description="longest pause before opening again"
    )
    queue_seconds: float = Field(
        4.0,
        gt=0,
        le=60,
        description=(
            "coded video of one camera that may wait for its decoder; then whole groups of pictures"
            " are dropped"
        ),
    )
    queue_megabytes: float = Field(
        32.0, gt=0, le=1024, description="most coded video of one camera that may wait"
    )
    camera_clock_seconds: float = Field(
        10.0,
        ge=0,
        description=(
            "events are dated by the camera's clock (RTCP) if it is this close to ours; 0: always"
            " by ours"
        ),
    )
    tls_verify: bool = Field(
        False, description="rtsps, https: refuse certificates that tls_ca_file does not vouch for"
    )
    tls_ca_file: str | None = Field(None, description="certificate authorities, PEM")

    @model_validator(mode="after")
    def _check(self) -> SourceConfig:
        if self.backoff_first_seconds > self.backoff_most_seconds:
            raise ValueError("backoff_first_seconds must not be above backoff_most_seconds")
        if self.tls_ca_file is not None and not self.tls_verify:
            raise ValueError("tls_ca_file needs tls_verify: true, otherwise nobody is vouched for")
        return self

    def problem(self) -> str | None:
        """What is certainly wrong with it; None if nothing is."""
        if self.tls_ca_file is not None and not is_file(self.tls_ca_file):
            return f"source.tls_ca_file: file not found: {self.tls_ca_file}"
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
        DEFAULT_STRIDE, ge=1, le=1024, description="a clip is due every this many sampled frames"
    )
    max_gap_seconds: float = Field(
        1.0,
        gt=0,
        description="a longer silence starts the clip anew; a shorter one repeats the last frame",
    )
