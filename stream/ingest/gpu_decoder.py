"""Decode packets with the GPU's decoder (NVDEC); the contract is that of `stream.ingest.decoder`.

The frames are surfaces on the GPU; none is converted here. No GPU has run this yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from configs import DeviceMemoryError, MediaError
from model.media.elementary import ElementaryStream, parameter_bytes
from model.media.nvdec import CODECS, Surface
from stream.ingest.decodable import SoftwareReason, VideoFacts, codec_name, nvdec_reason
from stream.ingest.decode_failures import (
    DecodeFailures,
    ReorderedError,
    SoftwareNeededError,
)
from stream.ingest.decoder_lane import LaneHungError
from stream.ingest.decoder_pool import DecoderPool, Seat
from stream.ingest.due_frames import DueFrames
from stream.ingest.gop import IN_ORDER
from stream.ingest.stream_look import StreamLook
from stream.ingest.surface_frames import PictureMaker
from stream.types import CodedPacket, DecodedFrame

__all__ = ["GpuDecoder"]


class GpuDecoder:
    """Decodes one camera's packets; frames come in presentation order, with their arrival times.

    The `native` of its frames is a `SurfaceFrame`. The first key frame, and each that changes the
    stream's parameters, is also decoded in software, which shows size and colours. After a gap in
    the stream, or an error, decoding goes on with the next key frame.

    Args:
        pool: the GPU's decoders; the first video that the GPU can decode takes a seat.
        short_side: pixels to which the frames are scaled down when they are converted.
        max_pixels: of a frame.
        is_stopped: whether the camera should end; asked while it waits.
        on_corrupt: called for each packet that cannot be decoded.
        on_look: called with what a key frame shows of the video, each time that this changes.

    Attributes:
        next_tag: of the next packet.
    """

    def __init__(
        self,
        pool: DecoderPool,
        *,
        short_side: int,
        max_pixels: int,
        is_stopped: Callable[[], bool] = lambda: False,
        on_corrupt: Callable[[CodedPacket], None] = lambda coded: None,
        on_look: Callable[[VideoFacts], None] = lambda facts: None,
    ) -> None:
        self._pool = pool
        self._short_side = short_side
        self._max_pixels = max_pixels
        self._is_stopped = is_stopped
        self._on_corrupt = on_corrupt
        self._on_look = on_look
        self._seat: Seat | None = None
        self._maker: PictureMaker | None = None
        self._stream: Any = None  # of the connection
        self._elementary: ElementaryStream | None = None
        self._codec = ""
        self._look: StreamLook | None = None  # of the decoder's frames
        self._is_known = False  # whether this connection's frames look like that
        self._parameters = b""
        self._reorders = False  # it was seen, whatever the stream says
        self.next_tag = 0
        self._is_open = False
        self._due = DueFrames(self._note_corrupt)
        self._failures = DecodeFailures()
        self._waits = self._needs_header = True  # for a key frame, for the parameters
        self._newest_pts: int | None = None  # of this group
        self._flushed: list[DecodedFrame] = []  # what the decoder held before this key frame

    def decode(self, coded: CodedPacket) -> list[DecodedFrame]:
        """Return the frames that this packet completes: often one, sometimes none or several.

        Raises:
            SoftwareNeededError: software must take over.
            ReorderedError: frames are reordered after all. The packet was not decoded; `reopen`.
            CallAbandonedError: the camera was stopped.
        """
        if coded.packet is None:
            self._drop_held()
            self._due.times.restart()
            return []
        self._due.times.note(coded)
        self._flushed = []
        try:
            if coded.size and coded.packet.stream is not self._stream:
                self._connect(coded)
            return self._decode(coded) if coded.size else self._drain(coded)
        except LaneHungError as error:
            raise SoftwareNeededError(SoftwareReason.HUNG, str(error)) from error
        except DeviceMemoryError as error:
            raise SoftwareNeededError(SoftwareReason.MEMORY, str(error)) from error
        except MediaError as error:
            self._note_failure(coded, str(error))
            return self._flushed

    def reopen(self, started_monotonic: float, frames_before: int) -> None:
        """Prepare to decode again from a key frame on, this time in presentation order.

        Args:
            started_monotonic, frames_before: see `FrameTimes.go_on`.
        """
        self._reorders = True
        self._drop_held()
        self._is_known = False
        self._due.times.go_on(started_monotonic, frames_before)

    @property
    def oldest_tag(self) -> int:
        """Lowest tag of the packets whose frames are still due; if there are none, the next."""
        oldest = self._due.oldest_tag
        return self.next_tag if oldest is None else oldest

    @property
    def waits_for_key_frame(self) -> bool:
        """Whether it can only go on with a key frame."""
        return self._waits

    def close(self) -> None:
        """Close the decoder; does not wait."""
        if self._seat is not None:
            self._seat.close()
            self._seat = None
        self._is_open = False

    # Packets --------------------------------------------------------------------------------------

    def _decode(self, coded: CodedPacket) -> list[DecodedFrame]:
        assert self._elementary is not None, "a packet connects"
        if not coded.is_key and self._waits:
            return []
        data = self._elementary.convert(coded.packet, starts=self._needs_header and coded.is_key)
        if coded.is_key:
            self._prepare(coded, data)
        self._check_order(coded)
        tag = self.next_tag
        self.next_tag += 1
        self._due.add(coded, tag)
        self._waits = self._needs_header = False
        self._failures.note_packet()
        frames = self._flushed + self._taken(self._surfaces(data, tag), coded)
        if self._failures.are_too_many:
            raise SoftwareNeededError(SoftwareReason.ERRORS, "its packets give no frames")
        return frames

    def _surfaces(self, data: bytes, tag: int) -> list[Surface]:
        seat = self._opened()
        try:
            return seat.decode(data, tag)
        except LaneHungError:
            raise
        except MediaError as error:
            self._is_open = False  # nobody knows whether it could go on
            if seat.is_fresh:  # software has decoded this key frame
                raise SoftwareNeededError(SoftwareReason.NO_DECODER, str(error)) from error
            raise

    def _drain(self, coded: CodedPacket) -> list[DecodedFrame]:
        """Return what is left at the end of a file."""
        frames = []
        if self._is_open and not self._waits:
            frames = self._taken(self._flush(), coded)
        frames += self._due.finish()
        self._start_again()
        return frames

    def _drop_held(self) -> None:
        """Drop the frames that the decoder still holds; they come before a gap."""
        try:
            if self._is_open and not self._waits:
                self._flush()
        except LaneHungError as error:
            raise SoftwareNeededError(SoftwareReason.HUNG, str(error)) from error
        except (MediaError, DeviceMemoryError):
            pass  # the next key frame gets another decoder
        self._start_again()

    def _flush(self) -> list[Surface]:
        self._is_open = False  # nobody knows what an error leaves
        surfaces = self._opened().flush()
        self._is_open = True
        return surfaces

    def _start_again(self) -> None:
        """Begin with the next key frame."""
        self._due.restart()
        self._failures.restart()
        self._waits = self._needs_header = True
        self._newest_pts = None

    def _connect(self, coded: CodedPacket) -> None:
        """Take the packets of another connection, whose frames may differ."""
        codec = codec_name(coded.packet.stream.codec_context)
        if codec not in CODECS:
            raise SoftwareNeededError(SoftwareReason.CODEC, f"NVDEC does not decode {codec}")
        self._stream = coded.packet.stream
        self._codec = codec
        self._elementary = ElementaryStream(codec, coded.template)
        self._is_known = False
        self._needs_header = True

    # Key frames -----------------------------------------------------------------------------------

    def _prepare(self, coded: CodedPacket, data: bytes) -> None:
        """Make the decoder ready for a key frame."""
        self._failures.start_group()
        self._newest_pts = None
        if self._waits:
            self._due.restart(coded)
        parameters = parameter_bytes(self._codec, data)
        if self._is_open and self._is_known and parameters in (b"", self._parameters):
            return
        self._finish_before(coded)
        look = StreamLook.of(coded.packet, max_pixels=self._max_pixels, reorders=self._reorders)
        reason = nvdec_reason(look.facts, self._pool.caps)
        if reason is not None:
            raise SoftwareNeededError(*reason)
        self._change(look)
        self._parameters = parameters
        self._is_known = True

    def _finish_before(self, coded: CodedPacket) -> None:
        """Take what the decoder still holds; it then waits for a key frame that can be read."""
        if self._is_open and not self._waits:
            self._flushed = self._taken(self._flush(), coded) + self._due.finish()
        self._due.restart(coded)
        self._waits = self._needs_header = True

    def _change(self, look: StreamLook) -> None:
        """Give the stream a decoder for these frames."""
        before, self._look = self._look, look
        fits = self._is_open and before is not None and before.decoder == look.decoder
        is_resized = before is not None and before.size != look.size
        self._is_open = False  # nobody knows what an error leaves
        if not fits or (is_resized and not self._opened().resize(look.size)):
            self._open(look)
        self._is_open = True
        self._on_look(look.facts)

    def _open(self, look: StreamLook) -> None:
        try:
            if self._seat is None:
                self._seat = self._pool.take_seat(self._is_stopped)
                self._maker = PictureMaker(self._seat.stream, self._short_side)
            self._seat.open(
                codec=look.facts.codec, max_size=look.size, keeps_order=look.keeps_order
            )
        except LaneHungError:
            raise
        except MediaError as error:
            raise SoftwareNeededError(SoftwareReason.NO_DECODER, str(error)) from error

    def _opened(self) -> Seat:
        assert self._seat is not None, "a decoder is opened at a key frame"
        return self._seat

    def _check_order(self, coded: CodedPacket) -> None:
        assert self._look is not None, "a key frame says what the frames are"
        time = coded.packet.pts
        if time is None or not self._look.keeps_order or self._codec in IN_ORDER:
            return
        if self._newest_pts is not None and time < self._newest_pts:
            raise ReorderedError
        self._newest_pts = time

    def _taken(self, surfaces: Sequence[Surface], coded: CodedPacket) -> list[DecodedFrame]:
        """Return the frames of surfaces that came with a packet, in presentation order."""
        assert self._look is not None, "a key frame says what the frames are"
        assert self._maker is not None, "a decoder has a seat"
        if surfaces:
            self._failures.note_frame()
        return self._due.take(surfaces, coded, self._look, self._maker)

    def _note_failure(self, coded: CodedPacket, detail: str) -> None:
        """Note that a packet could not be decoded; after too many, software takes over."""
        self._note_corrupt(coded)
        self._failures.note_failure()
        if self._failures.are_too_many:
            raise SoftwareNeededError(SoftwareReason.ERRORS, detail)
        if not self._is_open:
            self._due.restart()
            self._waits = self._needs_header = True

    def _note_corrupt(self, coded: CodedPacket) -> None:
        if not coded.repeated:
            self._on_corrupt(coded)
