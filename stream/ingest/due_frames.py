"""Remember the packets that a decoder on the GPU works on, and give its frames their times."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from model.media.key_frames import is_shown
from model.media.nvdec import Surface
from model.media.presentation_order import PresentationOrder
from stream.ingest.frame_times import FrameTimes
from stream.ingest.stream_look import StreamLook
from stream.ingest.surface_frames import PictureMaker, SurfaceFrame
from stream.types import CodedPacket, DecodedFrame

__all__ = ["DueFrames"]

# A decoder holds 16 frames at most, and four for its latency; what is older never comes.
_MAX_HELD = 32


class DueFrames:
    """Remembers the packets whose frames are still due, and gives these frames their times.

    Args:
        on_missing: called with each packet whose frame does not come.

    Attributes:
        times: gives the frames their presentation times.
    """

    def __init__(self, on_missing: Callable[[CodedPacket], None]) -> None:
        self._on_missing = on_missing
        self.times = FrameTimes()
        self._packets: collections.OrderedDict[int, CodedPacket] = collections.OrderedDict()
        self._order: PresentationOrder[DecodedFrame] = PresentationOrder()
        self._start_pts: int | None = None

    def restart(self, first: CodedPacket | None = None) -> None:
        """Forget what is due.

        Args:
            first: the key frame that comes next.
        """
        self._packets.clear()
        self._order = PresentationOrder()
        self._start_pts = None if first is None else first.packet.pts

    def add(self, coded: CodedPacket, tag: int) -> None:
        """Note a packet that the decoder gets; its tag is higher than those before."""
        self._packets[tag] = coded

    @property
    def oldest_tag(self) -> int | None:
        """Lowest tag of the packets whose frames are due."""
        return next(iter(self._packets), None)

    def take(
        self, surfaces: Sequence[Surface], coded: CodedPacket, look: StreamLook, maker: PictureMaker
    ) -> list[DecodedFrame]:
        """Return the frames of surfaces, in presentation order.

        Args:
            surfaces: in the order in which the decoder gave them.
            coded: the packet after which the decoder gave them.
        """
        ready: list[DecodedFrame] = []
        for surface in surfaces:
            own = self._packets.pop(surface.tag, None)
            self._expire(surface.tag - (0 if look.keeps_order else _MAX_HELD))
            if own is not None and not own.repeated:
                frame = self._frame(surface, own, coded, look, maker)
                ready += self._order.push(frame, frame.pts_seconds)
        return ready

    def finish(self) -> list[DecodedFrame]:
        """Return frames that waited for earlier ones, and give up those that are still due."""
        held = self._order.flush()
        if self._packets:
            self._expire(next(reversed(self._packets)) + 1)
        return held

    def _frame(
        self,
        surface: Surface,
        own: CodedPacket,
        coded: CodedPacket,
        look: StreamLook,
        maker: PictureMaker,
    ) -> DecodedFrame:
        packet = own.packet
        time = None if packet.pts is None else float(packet.pts * packet.time_base)
        width, height = look.shown_size(surface.width, surface.height)
        turns = look.facts.turns
        return DecodedFrame(
            SurfaceFrame(surface, width, height, turns, look.colours, maker),
            self.times.seconds(coded, time),
            own.arrived_monotonic,
            own.wall_seconds,
            width,
            height,
            turns,
        )

    def _expire(self, before_tag: int) -> None:
        while self._packets and next(iter(self._packets)) < before_tag:
            coded = self._packets.popitem(last=False)[1]
            time, start = coded.packet.pts, self._start_pts
            # Frames that are presented before the first key frame refer to what never came.
            is_leading = time is not None and start is not None and time < start
            codec = coded.packet.stream.codec_context.codec.canonical_name
            if not is_leading and is_shown(codec, bytes(coded.packet)):
                self._on_missing(coded)
