"""The format of a stream's frames, as a key frame shows it."""

from __future__ import annotations

import dataclasses
from typing import Any

from model.media.nv12 import SurfaceColours
from stream.ingest.decodable import VideoFacts, bit_depth, first_frame
from stream.ingest.gop import IN_ORDER

__all__ = ["StreamLook"]


@dataclasses.dataclass(frozen=True)
class StreamLook:
    """What a GPU's decoder, and the conversion of its surfaces, must know about a stream.

    Attributes:
        keeps_order: whether frames are presented in the order of their packets: no B-frames.
    """

    facts: VideoFacts
    colours: SurfaceColours
    keeps_order: bool

    @classmethod
    def of(cls, packet: Any, *, max_pixels: int, reorders: bool) -> StreamLook:
        """Decode a key frame in software, and read the format from it.

        Args:
            reorders: whether it is known that frames are presented in another order than packets.

        Raises:
            MediaError: it cannot be decoded, or is larger than `max_pixels`.
        """
        frame = first_frame(packet, max_pixels)
        context = packet.stream.codec_context
        facts = VideoFacts.of(frame, context)
        # A frame is presented later than it is decoded if others come between. Not every stream
        # says how many.
        has_delay = None not in (packet.pts, packet.dts) and packet.pts > packet.dts
        is_mixed = reorders or has_delay or bool(context.has_b_frames)
        keeps_order = facts.codec in IN_ORDER or not is_mixed
        return cls(facts, SurfaceColours.of(frame, facts.codec), keeps_order)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that are shown, before rotation."""
        return self.facts.width, self.facts.height

    @property
    def decoder(self) -> tuple[str, int | None, bool]:
        """What needs a new decoder if it changes: codec, bits of a sample, order of frames."""
        return self.facts.codec, bit_depth(self.facts), self.keeps_order

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of the part of a surface that is shown; the rest lies right and below."""
        is_cut = self.facts.width <= width and self.facts.height <= height
        return self.size if is_cut else (width, height)
