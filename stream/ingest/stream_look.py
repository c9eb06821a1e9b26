"""What the frames of a stream are, from one key frame on."""

from __future__ import annotations

import dataclasses
from typing import Any

from model.media.nv12 import SurfaceColours
from stream.ingest.decodable import VideoFacts, bit_depth, first_frame
from stream.ingest.gop import IN_ORDER

__all__ = ["StreamLook"]


@dataclasses.dataclass(frozen=True)
class StreamLook:
    """What a GPU's decoder, and the conversion of its surfaces, must know of a stream.

    Attributes:
        keeps_order: whether frames are presented in the order of their packets: no B-frames.
    """

    facts: VideoFacts
    colours: SurfaceColours
    keeps_order: bool

    @classmethod
    def of(cls, packet: Any, *, max_pixels: int, reorders: bool) -> StreamLook:
        """Read it off a key frame, by decoding it in software.

        Args:
            reorders: whether frames are known to be presented in another order.

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
        """What a decoder cannot change: codec, bits of a sample, order."""
        return self.facts.codec, bit_depth(self.facts), self.keeps_order

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that is shown of a surface, whose right and lower edges may be cut."""
        is_cut = self.facts.width <= width and self.facts.height <= height
        return self.size if is_cut else (width, height)
