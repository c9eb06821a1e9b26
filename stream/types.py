"""The values that flow from stage to stage.

Times: `pts_seconds` is the stream's presentation time. `arrived_monotonic` is the monotonic clock
when the packet arrived. `wall_seconds` is when the frame was taken, in seconds since 1970 (UTC):
by the camera's clock where it sends one (RTCP) that can be believed, otherwise by the packet's
arrival.

Letters: B clips, T frames, H and W space, C channels (RGB), K classes.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream.batch_times import BatchTimes
from stream.cameras.config import CameraConfig, View

if TYPE_CHECKING:
    from torch import Tensor

    from model.device_streams import DeviceEvent

__all__ = [
    "BlindReason",
    "Blindness",
    "BreakReason",
    "CameraOpened",
    "CameraSnapshot",
    "CameraState",
    "ClipBatch",
    "ClipRef",
    "ClipResults",
    "CodedPacket",
    "DecodedFrame",
    "EndReason",
    "PacketClock",
    "SampledFrame",
    "StreamBreak",
    "StreamItem",
    "View",
]

CameraState = Literal["connecting", "running", "stalled", "blocked", "offline", "ended"]
PacketClock = Literal["stream", "arrival", "count"]


class BreakReason(enum.StrEnum):
    """Why a camera's time line is interrupted; published as the `reason` of events that end."""

    GAP = "gap"
    BACKWARDS = "backwards"
    SIZE = "size"
    DROPPED = "dropped"
    STALLED = "stalled"
    RECONNECT = "reconnect"
    ENDED = "ended"
    OFFLINE = "offline"
    PAUSED = "paused"
    CHANGED = "changed"
    REMOVED = "removed"
    MOVED = "moved"
    SHUTDOWN = "shutdown"
    CRASH = "crash"

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of the camera unless it is opened again."""
        return self in _FINAL

    @property
    def is_departure(self) -> bool:
        """Whether this pipeline no longer has the camera."""
        return self in (BreakReason.REMOVED, BreakReason.MOVED)


_FINAL = (
    BreakReason.ENDED,
    BreakReason.PAUSED,
    BreakReason.CHANGED,
    BreakReason.REMOVED,
    BreakReason.MOVED,
)


class EndReason(enum.StrEnum):
    """Why a camera is in the state `ended`; the value is shown to people."""

    FINISHED = "end of file"
    STOPPED = "stopped"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"
    PAUSED = "paused"
    FAILED = "failed"

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wanted the end, or it lies in the nature of a file."""
        return self is not EndReason.FAILED


class BlindReason(enum.StrEnum):
    """Why a camera that runs gives no clips; a label of `cidc_camera_blind`."""

    RECONNECTS = "reconnects"
    NO_FRAMES = "no_frames"
    UNDECODABLE = "undecodable"
    DECODER_BEHIND = "decoder_behind"
    FRAME_RATE = "frame_rate"
    TIMESTAMPS = "timestamps"
    FRAME_SIZE = "frame_size"
    NO_SLOT = "no_slot"
    OVERLOAD = "overload"
    INVALID_RESULTS = "invalid_results"
    NO_RESULTS = "no_results"


@dataclasses.dataclass(frozen=True)
class Blindness:
    """A camera runs and has given no clip since a moment; `detail` names the remedy."""

    reason: BlindReason
    detail: str
    since_monotonic: float

    def as_dict(self) -> dict[str, Any]:
        """Return the reason, the detail and the seconds since the last clip, for programs."""
        seconds = time.monotonic() - self.since_monotonic
        return {"reason": self.reason.value, "detail": self.detail, "seconds": round(seconds, 1)}


@dataclasses.dataclass(frozen=True)
class CodedPacket:
    """One compressed packet and when it arrived.

    `packet` is None where packets are missing; `lost` says why, and decoders restart there. A
    `repeated` packet was delivered before; it comes again because later ones refer to it.
    `clock` says which presentation times can be believed: those of the stream; or, where it has
    none, the arrival of a camera's packets, or the count of a file's frames at its frame rate.
    `template` is a copy of the stream's parameters, for remuxing.
    """

    packet: Any
    arrived_monotonic: float
    wall_seconds: float
    lost: BreakReason = BreakReason.RECONNECT
    clock: PacketClock = "stream"
    repeated: bool = False
    template: Any = None

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
    """A decoded frame, not yet converted to RGB; `turns` quarter turns left make it upright."""

    native: Any
    pts_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    width: int
    height: int
    turns: int = 0


@dataclasses.dataclass(frozen=True)
class SampledFrame:
    """One position of a camera's time grid: RGB uint8 `H W C`, any size.

    What was decoded on a GPU is a tensor there; everything else is an array. `sampled_monotonic`
    is when it was ready.
    """

    camera_id: str
    frame_HWC: NDArray[np.uint8] | Tensor
    pts_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    sampled_monotonic: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        shape = self.frame_HWC.shape
        is_uint8 = self.frame_HWC.dtype == np.uint8 or str(self.frame_HWC.dtype) == "torch.uint8"
        if not is_uint8 or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"a sampled frame is uint8 H W 3, got {self.frame_HWC.dtype} {shape}")

    def __repr__(self) -> str:
        return (
            f"SampledFrame({self.camera_id}, {self.frame_HWC.shape},"
            f" pts_seconds={self.pts_seconds:.3f})"
        )


@dataclasses.dataclass(frozen=True)
class CameraOpened:
    """A camera begins, with these settings; the first item of its stream.

    Every opening of a camera has a `generation` of its own, higher than those before. The video of
    a recording ends. A recording waits for the analysis; a camera does not. Where workers share
    cameras, `epoch` grows each time that one takes the camera over.
    """

    config: CameraConfig
    generation: int
    is_recording: bool = False
    epoch: int | None = None

    @property
    def camera_id(self) -> str:
        """The camera's name."""
        return self.config.id

    @property
    def waits(self) -> bool:
        """Whether its frames may wait for as long as the analysis needs."""
        return self.is_recording and self.config.pace == "fast"


@dataclasses.dataclass(frozen=True)
class StreamBreak:
    """A camera's time line is interrupted: no clip spans it, open events end with this reason."""

    camera_id: str
    reason: BreakReason
    generation: int


StreamItem = CameraOpened | SampledFrame | StreamBreak


@dataclasses.dataclass(frozen=True)
class ClipRef:
    """Whose clip a row of a batch is, and the moment of its newest frame.

    `frame_HWC` is that frame where pictures of events are kept. The frame was sampled at
    `sampled_monotonic` (None: not known); the clip was complete at `due_monotonic`.
    """

    view: View
    pts_end_seconds: float
    arrived_monotonic: float
    wall_seconds: float
    frame_HWC: NDArray[np.uint8] | Tensor | None = None
    sampled_monotonic: float | None = None
    due_monotonic: float = dataclasses.field(default_factory=time.monotonic)


@dataclasses.dataclass(frozen=True)
class ClipBatch:
    """A batch on its way to the network: normalised `clips_BCTHW`, and whose each clip is.

    On a CUDA device the clips are complete after the event `ready`; elsewhere it is None.
    """

    clips_BCTHW: Tensor
    refs: tuple[ClipRef, ...]
    ready: DeviceEvent | None = None
    gathered_monotonic: float = dataclasses.field(default_factory=time.monotonic)


@dataclasses.dataclass(frozen=True)
class ClipResults:
    """What the network says of a batch: `probabilities_BK`, with the clips they belong to."""

    clips_BCTHW: Tensor
    refs: tuple[ClipRef, ...]
    probabilities_BK: list[list[float]]
    times: BatchTimes | None = None


@dataclasses.dataclass(frozen=True)
class CameraSnapshot:
    """A camera's status at one moment, for people and programs."""

    camera_id: str
    state: CameraState
    detail: str
    fps: float
    last_frame_age_seconds: float | None
    blind: Blindness | None = None
    has_failed: bool = False
