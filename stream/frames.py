"""The values that flow from stage to stage.

Times: `pts_seconds` is the stream's presentation time; `arrived_monotonic` the monotonic clock when the packet came in;
`wall_seconds` the same moment in seconds since 1970 (UTC). Letters: H, W space, C channels (RGB), K classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BreakReason", "CameraState", "CodedPacket", "DecodedFrame", "SampledFrame", "StreamBreak", "Window"]

CameraState = Literal["connecting", "running", "stalled", "blocked", "offline", "ended"]
BreakReason = Literal["gap", "backwards", "size", "reconnect", "ended", "offline", "shutdown", "crash"]


@dataclasses.dataclass(frozen=True)
class CodedPacket:
    """One compressed packet and when it came in. `packet` is None where the connection was lost: decoders start anew."""

    packet: Any
    arrived_monotonic: float
    wall_seconds: float


@dataclasses.dataclass
class DecodedFrame:
    """A decoded picture that is converted to RGB when, and only when, somebody asks."""

    native: Any
    pts_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class SampledFrame:
    """One position of a camera's time grid: RGB uint8 `H W C`, any size."""

    camera_id: str
    picture_HWC: NDArray[np.uint8]
    pts_seconds: float
    arrived_monotonic: float
    wall_seconds: float

    def __post_init__(self) -> None:
        shape = self.picture_HWC.shape
        if self.picture_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"a sampled frame is uint8 H W 3, got {self.picture_HWC.dtype} {shape}")

    def __repr__(self) -> str:
        return f"SampledFrame({self.camera_id}, {self.picture_HWC.shape}, pts_seconds={self.pts_seconds:.3f})"


@dataclasses.dataclass(frozen=True)
class StreamBreak:
    """The camera's time line is interrupted: clips must not span it, open events end with this reason."""

    camera_id: str
    reason: BreakReason


@dataclasses.dataclass(frozen=True)
class Window:
    """Which clip a row of a batch is: the camera and the moment of its newest frame."""

    camera_id: str
    pts_end_seconds: float
    arrived_monotonic: float
    wall_seconds: float
