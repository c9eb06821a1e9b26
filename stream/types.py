"""The values that flow from stage to stage.

Times: `pts_seconds` is the stream's presentation time; `arrived_monotonic` the monotonic clock when
    the packet came in;
`wall_seconds` when the picture was taken in seconds since 1970 (UTC): by the camera's clock where
it tells (RTCP) and can be believed, otherwise when the packet came in. Letters: H, W space, C
channels (RGB), K classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BreakReason",
    "CameraState",
    "CodedPacket",
    "DecodedFrame",
    "PacketClock",
    "SampledFrame",
    "StreamBreak",
    "View",
    "Window",
]

CameraState = Literal["connecting", "running", "stalled", "blocked", "offline", "ended"]
BreakReason = Literal[
    "gap",
    "backwards",
    "size",
    "dropped",
    "stalled",
    "reconnect",
    "ended",
    "offline",
    "paused",
    "changed",
    "removed",
    "shutdown",
    "crash",
]
PacketClock = Literal["stream", "arrival", "count"]


class View(NamedTuple):
    """What clips are cut from: a camera's whole picture, or one of its regions of interest."""

    camera_id: str
    region: str | None = None


@dataclasses.dataclass(frozen=True)
class CodedPacket:
    """One compressed packet and when it came in. `packet` is None where packets are missing, `lost`
    why: decoders start anew.

    `clock` says what presentation times are to be believed: those of the stream; where it has none
    of its own, of a camera the arrival, and of a file the count of frames at its rate.
    """

    packet: Any
    arrived_monotonic: float
    wall_seconds: float
    lost: BreakReason = "reconnect"
    clock: PacketClock = "stream"

    @property
    def is_key(self) -> bool:
        """Whether decoding can begin here."""
        return self.packet is not None and bool(self.packet.is_keyframe)

    @property
    def size(self) -> int:
        """Bytes of the packet; 0 for the empty one that flushes a decoder."""
        return 0 if self.packet is None else int(self.packet.size)


@dataclasses.dataclass
class DecodedFrame:
    """A decoded picture that is converted to RGB when, and only when, somebody asks; `turns`
    quarter turns left make it upright.
    """

    native: Any
    pts_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    width: int
    height: int
    turns: int = 0


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
            raise ValueError(
                f"a sampled frame is uint8 H W 3, got {self.picture_HWC.dtype} {shape}"
            )

    def __repr__(self) -> str:
        return (
            f"SampledFrame({self.camera_id}, {self.picture_HWC.shape},"
            f" pts_seconds={self.pts_seconds:.3f})"
        )


@dataclasses.dataclass(frozen=True)
class StreamBreak:
    """The camera's time line is interrupted: clips must not span it, open events end with this
    reason.
    """

    camera_id: str
    reason: BreakReason


@dataclasses.dataclass(frozen=True)
class Window:
    """Which clip a row of a batch is: whose, and the moment of its newest frame; `picture_HWC`
    is that frame where pictures are kept.
    """

    view: View
    pts_end_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    picture_HWC: NDArray[np.uint8] | None = None
