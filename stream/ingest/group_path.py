"""One camera's groups of pictures on their way through DALI, until something speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import MediaError
from model.media.colour import correction_of_bt601
from model.media.gop_decoder import EncodedGop
from model.media.remux import remux
from stream.ingest.config import SourceConfig
from stream.ingest.decodable import SoftwareReason, VideoFacts, first_frame, software_reason
from stream.ingest.decode_stage import DecodeStage
from stream.ingest.gop import Gop, GopCollector, planned_frames, presentation_order
from stream.types import CodedPacket, DecodedFrame

__all__ = ["GroupPath"]

# So many groups in a row that cannot be decoded are not an accident.
_MAX_FAILURES = 3
# What damaged packets may look like, too.
_ACCIDENTS = (SoftwareReason.TIMESTAMPS, SoftwareReason.HIDDEN_FRAMES)
_CROPPED_CODECS = ("h264", "hevc")


class GroupPath:
    """Collects, plans and decodes one camera's groups.

    Args:
        stage: decodes the groups of all cameras.
        is_stopped: whether the camera should end; asked while its group is decoded.

    Attributes:
        problem: why this camera cannot be decoded by DALI; None while it can.
    """

    def __init__(
        self, stage: DecodeStage, config: SourceConfig, is_stopped: Callable[[], bool]
    ) -> None:
        self._stage = stage
        self._config = config
        self._is_stopped = is_stopped
        self._collector = GopCollector(
            max_seconds=config.max_gop_seconds, max_bytes=config.max_queue_megabytes * 1e6
        )
        self.problem: tuple[SoftwareReason, str] | None = None
        self._failures = 0
        self._facts: VideoFacts | None = None
        self._correction: NDArray[np.float32] | None = None

    def push(self, coded: CodedPacket) -> list[Gop]:
        """Add a packet; return the group that it completes."""
        return self._collector.push(coded)

    def rest(self) -> tuple[CodedPacket, ...]:
        """Return the packets of the group that is not complete, for another decoder."""
        return self._collector.rest()

    def plan(self, gop: Gop) -> list[DecodedFrame] | None:
        """List the frames of a group in presentation order; their `native` is a `GopFrame`.

        Returns:
            None if it must be decoded in software; `problem` is then set if this holds for the
            whole camera.
        """
        if gop.problem is not None:
            self.problem = SoftwareReason.GOP_LENGTH, gop.problem
            return None
        if not gop.packets[0].is_key:
            self.note_failure(SoftwareReason.ERRORS, "they do not begin with a key frame")
            return None
        try:
            facts = self._read_facts(gop.packets[0].packet)
        except MediaError as error:
            self.note_failure(SoftwareReason.ERRORS, str(error))
            return None
        self.problem = software_reason(facts, self._stage.device)
        if self.problem is not None:
            return None
        planned = planned_frames(
            gop,
            width=facts.width,
            height=facts.height,
            max_seconds=self._config.max_gop_seconds,
        )
        if isinstance(planned, list):
            return planned
        if planned[0] in _ACCIDENTS:
            self.note_failure(*planned)
        else:
            self.problem = planned
        return None

    def decode(self, gop: Gop, frames: Sequence[DecodedFrame], wanted: Sequence[Any]) -> bool:
        """Decode those frames of a group that are wanted, and set their `picture`.

        Args:
            frames: as planned.
            wanted: `GopFrame`s, and what else the sampler still holds.

        Returns:
            Whether they were decoded; False if the camera was stopped.

        Raises:
            MediaError: DALI cannot decode the group.
        """
        own = {id(frame.native) for frame in frames}
        missing = {each.place: each for each in wanted if id(each) in own}
        if not missing:
            return True
        pictures = self._stage.decode(self._encoded(gop, sorted(missing)), self._is_stopped)
        if pictures is None:
            return False
        for place, picture in zip(sorted(missing), pictures, strict=True):
            missing[place].picture = picture
        self._failures = 0
        return True

    def note_failure(self, reason: SoftwareReason, detail: str) -> None:
        """Note that a group could not be decoded; several in a row are the camera's problem."""
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            self.problem = reason, f"{self._failures} groups of pictures in a row: {detail}"

    def _encoded(self, gop: Gop, places: Sequence[int]) -> EncodedGop:
        facts = self._facts
        assert facts is not None, "a group is planned before it is decoded"
        shown = (facts.width, facts.height)
        is_cropped = facts.codec in _CROPPED_CODECS and facts.coded_size != shown
        packets = [coded.packet for coded in gop.packets]
        return EncodedGop(
            remux(
                packets,
                presentation_order(gop),
                template=gop.packets[0].template,
                size=facts.coded_size if is_cropped else shown,
                is_cropped=is_cropped,
            ),
            np.array(places, np.int32),
            facts.width,
            facts.height,
            self._correction,
        )

    def _read_facts(self, packet: Any) -> VideoFacts:
        """Find out how large the frames now are, and which colours they have.

        Raises:
            MediaError: the key frame cannot be decoded.
        """
        frame = first_frame(packet, self._config.max_pixels)
        self._facts = VideoFacts.of(frame, packet.stream.codec_context)
        self._correction = correction_of_bt601(frame)
        return self._facts
