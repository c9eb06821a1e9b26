"""Packets to frames in software.

Every frame is decoded, because later ones refer to it; none is converted here.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import av
from av.error import FFmpegError

from model.media.conversion import quarter_turns
from model.media.presentation_order import PresentationOrder
from stream.ingest.frame_times import FrameTimes
from stream.ingest.gop import Gop
from stream.types import CodedPacket, DecodedFrame

__all__ = ["Decoder"]

# Packets whose frames never appear must not be remembered for ever.
_MAX_PENDING = 256
_SAME_SECONDS = 1e-6  # two ways to compute the time of a frame differ by less


class Decoder:
    """Decodes one camera's packets to frames in presentation order, each with its arrival time."""

    def __init__(self, on_corrupt: Callable[[], None] = lambda: None) -> None:
        self._on_corrupt = on_corrupt
        self._arrivals: collections.OrderedDict[Any, tuple[float, float]] = (
            collections.OrderedDict()
        )
        self._times = FrameTimes()
        # Where another decoder ended:
        self._given_seconds: float | None = None
        self._skips_to_key_frame = False
        self._codec: Any = None
        self._order: PresentationOrder[DecodedFrame] = PresentationOrder()

    def decode(self, coded: CodedPacket) -> list[DecodedFrame]:
        """Frames that this packet completes: often one, sometimes none or several."""
        if coded.packet is None:
            if self._codec is not None:
                self._codec.flush_buffers()  # what it still holds lies before the hole
            self._arrivals.clear()
            self._order = PresentationOrder()
            self._times.restart()
            self._given_seconds = None
            self._skips_to_key_frame = False
            return []
        if self._skips_to_key_frame and coded.size and not coded.is_key:
            return []
        self._skips_to_key_frame = False
        packet = coded.packet
        self._codec = packet.stream.codec_context
        self._times.note(coded)
        self._arrivals[packet.pts] = (coded.arrived_monotonic, coded.wall_seconds)
        if len(self._arrivals) > _MAX_PENDING:
            self._arrivals.popitem(last=False)
        try:
            frames = packet.decode()
        except (FFmpegError, ValueError):
            self._note_corrupt(coded)
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        for _ in range(len(frames) - len(whole)):
            self._note_corrupt(coded)
        stamped = [self._stamped(frame, coded) for frame in whole]
        ordered = [
            ready for frame in stamped for ready in self._order.push(frame, frame.pts_seconds)
        ]
        if coded.repeated:
            return []
        return self._not_given(ordered if packet.size else ordered + self._order.flush())

    def decode_group(self, gop: Gop, before: Sequence[CodedPacket]) -> list[DecodedFrame]:
        """Decode a whole group of pictures by itself, up to its last frame.

        Args:
            before: the packets of the group before it; damaged key frames and open groups refer to
                it. Its frames are not returned.
        """
        self.go_on(gop, before)
        frames = [frame for coded in gop.packets for frame in self.decode(coded)]
        end = av.Packet()
        end.stream = gop.packets[-1].packet.stream
        frames += self.decode(dataclasses.replace(gop.packets[-1], packet=end, repeated=False))
        self._codec.flush_buffers()  # it takes packets again
        self._arrivals.clear()
        self._order = PresentationOrder()
        return frames

    def go_on(self, gop: Gop, before: Sequence[CodedPacket]) -> None:
        """Go on with a group where another decoder ended, on the same connection."""
        self.start_at(gop.started_monotonic, gop.frames_before - len(before))
        for coded in before:
            self.decode(dataclasses.replace(coded, repeated=True))

    def start_at(
        self,
        started_monotonic: float,
        frames_before: int,
        *,
        given_seconds: float | None = None,
        skips_to_key_frame: bool = False,
    ) -> None:
        """Begin in the middle of a connection, where another decoder ended.

        Args:
            started_monotonic: arrival of the connection's first packet.
            frames_before: number of its packets before the next one.
            given_seconds: the next frames up to this time were given before, and are left out.
            skips_to_key_frame: whether packets before the next key frame are not decoded.
        """
        self._times.go_on(started_monotonic, frames_before)
        self._given_seconds = given_seconds
        self._skips_to_key_frame = skips_to_key_frame

    def _not_given(self, frames: list[DecodedFrame]) -> list[DecodedFrame]:
        if self._given_seconds is None:
            return frames
        given = self._given_seconds + _SAME_SECONDS
        new = [frame for frame in frames if frame.pts_seconds > given]
        if new:
            self._given_seconds = None
        return new

    def _note_corrupt(self, coded: CodedPacket) -> None:
        if not coded.repeated:
            self._on_corrupt()

    def _stamped(self, frame: Any, coded: CodedPacket) -> DecodedFrame:
        arrived, wall = self._arrivals.pop(frame.pts, (coded.arrived_monotonic, coded.wall_seconds))
        seconds = self._times.seconds(coded, frame.time)
        return DecodedFrame(
            frame, seconds, arrived, wall, frame.width, frame.height, quarter_turns(frame)
        )
