"""Decode one camera with NVDEC, until software must take over."""

from __future__ import annotations

from collections.abc import Callable

from stream.ingest.config import SourceConfig
from stream.ingest.decodable import SoftwareReason, VideoFacts
from stream.ingest.decode_failures import ReorderedError, SoftwareNeededError
from stream.ingest.decoder_lane import CallAbandonedError
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.gop import MAX_STEP_SECONDS, time_of
from stream.ingest.gpu_decoder import GpuDecoder
from stream.ingest.kept_packets import KeptPackets
from stream.types import CodedPacket, DecodedFrame

__all__ = ["PacketPath"]

# A camera may be opened in the middle of a long group of pictures.
_MAX_SECONDS_WITHOUT_KEY_FRAME = 10.0


class PacketPath:
    """Decodes one camera's packets with NVDEC, and keeps the packets that software would need.

    Args:
        pool: the GPU's decoders.
        short_side: pixels to which frames are scaled down when they are converted.
        is_stopped: whether the camera should end; asked while it waits.
        on_corrupt: called for each packet that cannot be decoded.
        on_look: called with what a key frame shows of the video, each time that this changes.
        on_passed_over: called with the number of packets that were not decoded for lack of a key
            frame, once it is clear that no other decoder gets them.

    Attributes:
        problem: why software must take over; None while NVDEC decodes.
        kept: the packets with which software would start.
        last_seconds: presentation time of the latest frame; None before the connection's first.
    """

    def __init__(
        self,
        pool: DecoderPool,
        config: SourceConfig,
        *,
        short_side: int,
        is_stopped: Callable[[], bool],
        on_corrupt: Callable[[], None] = lambda: None,
        on_look: Callable[[VideoFacts], None] = lambda facts: None,
        on_passed_over: Callable[[int], None] = lambda packets: None,
    ) -> None:
        self.problem: tuple[SoftwareReason, str] | None = None
        self.kept = KeptPackets(max_bytes=config.max_queue_megabytes * 1e6)
        self.last_seconds: float | None = None
        self._waited_seconds = 0.0  # for the connection's first key frame
        self._last_time: float | None = None
        self._is_repeating = False  # what was decoded before
        self._on_corrupt = on_corrupt
        self._on_passed_over = on_passed_over
        self._passed_over = 0  # packets in a row
        self._decoder = GpuDecoder(
            pool,
            short_side=short_side,
            max_pixels=config.max_pixels,
            is_stopped=is_stopped,
            on_corrupt=self._note_corrupt,
            on_look=on_look,
        )

    def push(self, coded: CodedPacket) -> list[DecodedFrame]:
        """Decode a packet; return the frames that it completes, in presentation order.

        If this is not possible, `problem` is set; frames that were returned before stay valid.
        """
        frames: list[DecodedFrame] = []
        was_waiting = self._decoder.waits_for_key_frame
        if coded.packet is None:
            self._restart()
        else:
            self.kept.add(coded, self._decoder.next_tag)
        try:
            frames = self._decode(coded)
            self.kept.forget(self._decoder.oldest_tag)
            self._check_key_frames(coded)
            self._count_passed_over(coded, was_waiting)
        except CallAbandonedError:
            return []
        except SoftwareNeededError as error:
            self.problem = error.reason, str(error)
        if frames:
            self.last_seconds = frames[-1].pts_seconds
        return frames

    def close(self) -> None:
        """Close the camera's decoder; does not wait. The frames stay."""
        self._decoder.close()

    def _restart(self) -> None:
        self.kept.restart()
        self.last_seconds = None
        self._waited_seconds = 0.0
        self._last_time = None

    def _decode(self, coded: CodedPacket) -> list[DecodedFrame]:
        try:
            return self._decoder.decode(coded)
        except ReorderedError:
            return self._decode_again()

    def _decode_again(self) -> list[DecodedFrame]:
        """Decode what is kept with a decoder that sorts frames; return those not given before."""
        kept = self.kept
        started = kept.started_monotonic
        assert started is not None, "packets were decoded"
        packets = kept.rest()
        kept.renumber(self._decoder.next_tag)
        self._decoder.reopen(started, kept.packets_before)
        self._is_repeating = True
        try:
            frames = [frame for each in packets for frame in self._decoder.decode(each)]
        finally:
            self._is_repeating = False
        last = self.last_seconds
        return [frame for frame in frames if last is None or frame.pts_seconds > last]

    def _check_key_frames(self, coded: CodedPacket) -> None:
        """Let software take over a camera without key frames; FFmpeg may decode it all the same."""
        if not self._decoder.waits_for_key_frame or self.last_seconds is not None:
            return
        if coded.packet is not None and coded.size:
            time = time_of(coded)
            if self._last_time is not None:
                self._waited_seconds += min(max(0.0, time - self._last_time), MAX_STEP_SECONDS)
            self._last_time = time
        is_end = coded.packet is not None and not coded.size and self.kept.packets > 0
        if is_end or self._waited_seconds > _MAX_SECONDS_WITHOUT_KEY_FRAME:
            detail = "it sends no key frames that can be decoded"
            raise SoftwareNeededError(SoftwareReason.NO_KEY_FRAMES, detail)

    def _count_passed_over(self, coded: CodedPacket, was_waiting: bool) -> None:
        if coded.size and was_waiting and self._decoder.waits_for_key_frame:
            self._passed_over += not coded.is_key  # key frames are reported as damaged
        elif self._passed_over:
            self._on_passed_over(self._passed_over)
            self._passed_over = 0

    def _note_corrupt(self, coded: CodedPacket) -> None:
        if not self._is_repeating:
            self.kept.note_reported(coded)
            self._on_corrupt()
