"""Whole groups of pictures of one camera: from a key frame to the next.

Short groups are joined, so that a camera whose frames are all key frames (MJPEG) gives a few groups
per second and not one per frame.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from model.media.container import frame_rate
from model.media.key_frames import is_shown, size_bytes
from model.media.remux import presentation_places
from stream.ingest.decodable import SoftwareReason, codec_name
from stream.types import CodedPacket, DecodedFrame

__all__ = [
    "IN_ORDER",
    "MAX_STEP_SECONDS",
    "Gop",
    "GopCollector",
    "GopFrame",
    "planned_frames",
    "presentation_order",
    "time_of",
]

# Joined groups are about as long; a frame waits for no longer than this for the sake of it.
_JOINED_SECONDS = 0.25
# A longer step between two packets is a gap or a jump of the clock, not the length of a group.
MAX_STEP_SECONDS = 1.0
_MAX_PACKETS = 2048
# Formats whose packets come in presentation order, one for each frame that is shown.
IN_ORDER = frozenset({"vp8", "vp9", "av1", "mjpeg"})


@dataclasses.dataclass(frozen=True)
class Gop:
    """The packets of one or several whole groups, in decoding order.

    The first is a key frame, unless the connection began without one.

    `started_monotonic` is the arrival of the connection's first packet, `frames_before` the number
    of packets since then. `problem` says why it is not whole: it is too long, or without key frame.
    """

    packets: tuple[CodedPacket, ...]
    started_monotonic: float
    frames_before: int
    problem: str | None = None


@dataclasses.dataclass(eq=False)
class GopFrame:
    """A frame of a group that is not decoded yet; `picture` is set when it is: uint8 `H W 3`."""

    place: int
    picture: Any = None


class GopCollector:
    """Collects one camera's packets.

    Args:
        max_seconds: length of a group; a longer one is not waited for.
        max_bytes: size of a group.
    """

    def __init__(self, *, max_seconds: float, max_bytes: float) -> None:
        self._max_seconds = max_seconds
        self._max_bytes = max_bytes
        self._started: float | None = None
        self._frames = 0
        self._clear()

    def push(self, coded: CodedPacket) -> list[Gop]:
        """Add a packet; return the group that it completes.

        A missing packet, and the empty one at the end of a file, complete what was collected.
        """
        if not coded.size:
            done = self._take()
            if coded.packet is None:
                self._started = None
                self._frames = 0
            return done
        if self._started is None:
            self._started = coded.arrived_monotonic
        done = self._take() if coded.is_key and not self._joins(coded) else []
        self._add(coded)
        if self._seconds > self._max_seconds:
            done += self._give_up(f"are longer than {self._max_seconds:g} s")
        elif self._bytes > self._max_bytes or len(self._packets) > _MAX_PACKETS:
            done += self._give_up(f"take {self._bytes / 1e6:.1f} MB")
        return done

    def rest(self) -> tuple[CodedPacket, ...]:
        """Return what is collected so far, and forget it."""
        packets = tuple(self._packets)
        self._clear()
        return packets

    def _clear(self) -> None:
        self._packets: list[CodedPacket] = []
        self._bytes = 0
        self._seconds = 0.0
        self._size: bytes | None = None
        self._last_time: float | None = None

    def _joins(self, key: CodedPacket) -> bool:
        """Whether a key frame continues the group: it is short, and the frames stay as large."""
        if self._size is None or self._seconds >= _JOINED_SECONDS:
            return False
        return self._size == _size_of(key)

    def _add(self, coded: CodedPacket) -> None:
        if not self._packets and coded.is_key:
            self._size = _size_of(coded)
        self._packets.append(coded)
        self._bytes += coded.size
        time = time_of(coded)
        if self._last_time is not None:
            self._seconds += min(max(0.0, time - self._last_time), MAX_STEP_SECONDS)
        self._last_time = time

    def _take(self) -> list[Gop]:
        """End the group; packets that came before the first key frame are one of their own."""
        packets = self.rest()
        return [self._gop(packets)] if packets else []

    def _give_up(self, what: str) -> list[Gop]:
        packets = self.rest()
        has_key = any(coded.is_key for coded in packets)
        problem = f"its groups of pictures {what}" if has_key else "it sends no key frames"
        return [self._gop(packets, problem)]

    def _gop(self, packets: tuple[CodedPacket, ...], problem: str | None = None) -> Gop:
        before = self._frames
        self._frames += len(packets)
        return Gop(packets, self._started or packets[0].arrived_monotonic, before, problem)


def planned_frames(
    gop: Gop, *, width: int, height: int, max_seconds: float
) -> list[DecodedFrame] | tuple[SoftwareReason, str]:
    """List the frames of a group in presentation order, before any is decoded.

    Their `native` is a `GopFrame`. Frames of packets that were delivered before are left out.

    Returns:
        The frames; or, where packets do not say which frames they give, the reason.
    """
    packets = [coded.packet for coded in gop.packets]
    codec = codec_name(packets[0].stream.codec_context)
    times = [packet.pts for packet in packets]
    if codec == "vp8" and not all(is_shown(codec, bytes(packet)[:1]) for packet in packets):
        return SoftwareReason.HIDDEN_FRAMES, "some of its packets give no frame"
    if codec not in IN_ORDER and not _rises(times):
        if None in times or len(set(times)) < len(times):
            return SoftwareReason.TIMESTAMPS, "its frames have no times, or several have the same"
        if (max(times) - min(times)) * packets[0].time_base > 2 * max_seconds:
            return SoftwareReason.TIMESTAMPS, "its timestamps jump within a group of pictures"
        if min(times) < times[0]:
            return SoftwareReason.OPEN_GOP, "its groups of pictures refer to earlier ones"
    places = presentation_order(gop)
    frames = [
        DecodedFrame(
            GopFrame(place),
            _seconds(coded, gop, place),
            coded.arrived_monotonic,
            coded.wall_seconds,
            width,
            height,
        )
        for coded, place in zip(gop.packets, places, strict=True)
        if not coded.repeated
    ]
    return sorted(frames, key=lambda frame: frame.native.place)


def presentation_order(gop: Gop) -> Sequence[int]:
    """Return the place of each packet's frame in presentation order."""
    packets = [coded.packet for coded in gop.packets]
    times = [packet.pts for packet in packets]
    if codec_name(packets[0].stream.codec_context) in IN_ORDER or _rises(times):
        return range(len(packets))  # whatever jumps their times make
    return presentation_places(times)


def _rises(times: Sequence[int | None]) -> bool:
    known = [time for time in times if time is not None]
    return len(known) == len(times) and all(
        earlier < later for earlier, later in itertools.pairwise(known)
    )


def _seconds(coded: CodedPacket, gop: Gop, place: int) -> float:
    """Return a frame's presentation time, as `Decoder` gives it in software."""
    packet = coded.packet
    if coded.clock == "count":
        return (gop.frames_before + place) / frame_rate(packet.stream)
    if coded.clock == "stream" and packet.pts is not None:
        return float(packet.pts * packet.time_base)
    return coded.arrived_monotonic - gop.started_monotonic


def _size_of(coded: CodedPacket) -> bytes | None:
    codec = codec_name(coded.packet.stream.codec_context)
    return size_bytes(codec, bytes(coded.packet))


def time_of(coded: CodedPacket) -> float:
    """Return the decoding time of a packet in seconds, or its arrival if it has none."""
    packet = coded.packet
    ticks = packet.dts if packet.dts is not None else packet.pts
    return coded.arrived_monotonic if ticks is None else float(ticks * packet.time_base)
