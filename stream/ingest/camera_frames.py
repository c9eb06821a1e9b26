"""One camera's packets to sampled frames: decoded by NVDEC, by DALI in groups, or in software."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from configs import MediaError
from model.media.conversion import FrameConverter
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decodable import SoftwareReason, VideoFacts
from stream.ingest.decode_stage import DecodeStage
from stream.ingest.decoder import Decoder
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.gop import Gop, GopFrame
from stream.ingest.group_path import GroupPath
from stream.ingest.packet_path import PacketPath
from stream.ingest.prepared_packets import prepared_packets
from stream.ingest.sampler import Sampler
from stream.ingest.software_fallback import SoftwareFallback
from stream.ingest.surface_frames import SurfaceFrame
from stream.metrics import Metrics
from stream.types import CodedPacket, DecodedFrame, SampledFrame, StreamBreak

__all__ = ["CameraFrames"]

_log = logging.getLogger(__name__)


class CameraFrames:
    """Decodes and samples one camera, from one opening to its end. One thread uses it.

    NVDEC decodes every packet as it comes; only frames that are used are converted. The sampler
    decides on the frames of a group before DALI decodes it, so DALI gives only those that are used.
    If DALI cannot decode a group, it is decoded in software from the same packets. If NVDEC or DALI
    cannot decode the camera, everything is, until the camera is opened again; or, some minutes
    after NVDEC gave up, until it has a new connection.

    Args:
        generation: of this opening, for the breaks.
        is_live: whether frames arrive as they are taken.
        short_side: pixels to which frames are scaled down while they are converted to RGB; DALI
            does not scale them.
        pool: the GPU's decoders for packets; None: they do not decode.
        stage: DALI's decoder of all cameras; None: it does not decode.
        stop: set when the camera should end.
        on_frame: told of each frame after it was sampled, and whether it could be converted.
        on_software: told why the camera is decoded in software, if another way was asked for.
        on_wait: called now and then while a decoder is waited for.

    Attributes:
        unconverted: number of frames that could not be converted.
        conversion_problem: what was wrong with the latest of them.
    """

    def __init__(
        self,
        camera_id: str,
        *,
        generation: int,
        is_live: bool,
        source: SourceConfig,
        clip: ClipConfig,
        metrics: Metrics,
        short_side: int,
        pool: DecoderPool | None,
        stage: DecodeStage | None,
        stop: threading.Event,
        on_frame: Callable[[DecodedFrame, bool], None],
        on_software: Callable[[str], None] = lambda detail: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._camera_id = camera_id
        self._metrics = metrics
        self._stop = stop
        self._on_frame = on_frame
        self._on_wait = on_wait
        self.unconverted = 0
        self.conversion_problem = ""
        self._converts = True  # whether the latest frame could be converted
        self._log_context = {"camera": camera_id}
        self._decoder = Decoder(self._count_corrupt)
        self._counted = 0  # damaged packets that software gets for the second time
        self._converter = FrameConverter(
            short_side,
            on_fallback=self._log_fallback,
            max_pixels=source.max_pixels,
            is_exact=pool is not None,  # others are converted on the GPU: one picture for all
        )
        skipped = metrics.dropped_frames
        self._sampler = Sampler(
            camera_id,
            clip,
            self._convert,
            generation=generation,
            on_repeat=metrics.repeated.labels(camera_id).inc,
            on_skip=lambda frames, reason: skipped.labels(camera_id, reason).inc(frames),
            on_unconverted=self._count_unconverted,
            is_live=is_live,
        )
        self._fallback = SoftwareFallback(camera_id, metrics, on_software)
        self._looks: set[str] = set()  # what was said about colours
        self._before: tuple[CodedPacket, ...] = ()  # the group before this one
        self._groups: GroupPath | None = None  # while DALI decodes
        self._packets: PacketPath | None = None  # while NVDEC decodes
        self._new_path: Callable[[], PacketPath] | None = None
        if pool is not None and pool.suits(source.decoder):
            self._new_path = functools.partial(
                PacketPath,
                pool,
                source,
                short_side=short_side,
                is_stopped=self._is_stopped,
                on_corrupt=metrics.corrupt.labels(camera_id).inc,
                on_look=self._note_look,
                on_passed_over=metrics.dropped_packets.labels(camera_id, "key_frame").inc,
            )
            self._packets = self._new_path()
        elif stage is not None and stage.suits(source.decoder):
            self._groups = GroupPath(stage, source, self._is_stopped)

    def take(self, coded: CodedPacket) -> Iterator[SampledFrame | StreamBreak]:
        """Yield what a packet completes, in order."""
        if self._packets is not None:
            yield from self._take_by_nvdec(self._packets, coded)
            return
        if self._groups is None:
            yield from self._take_packet(coded)
            if self._new_path is not None and self._fallback.ends_with(coded):
                self._packets = self._new_path()
            return
        for gop in self._groups.push(coded):
            yield from self._take_group(self._groups, gop)
        if self._groups is None and not coded.size:
            yield from self._take_packet(coded)
        elif coded.packet is None:
            self._before = ()
            yield from self._sampler.restart(coded.lost)

    def finish(self) -> Iterator[SampledFrame | StreamBreak]:
        """Yield what is left at the end of the camera."""
        if self._groups is not None and (packets := self._groups.rest()):
            yield from self._take_packets(packets)
        yield from self._sampler.finish()

    def close(self) -> None:
        """Give the camera's hardware decoder back; does not wait."""
        if self._packets is not None:
            self._packets.close()

    def prepared(self, packets: Iterable[CodedPacket]) -> Iterator[CodedPacket]:
        """Pass packets on; called by the thread that receives them."""
        # NVDEC may be tried again.
        return prepared_packets(
            packets, lambda: self._groups is not None or self._new_path is not None
        )

    # In software ----------------------------------------------------------------------------------

    def _take_packet(self, coded: CodedPacket) -> Iterator[SampledFrame | StreamBreak]:
        with self._metrics.stage.labels("decode").time():
            frames = self._decoder.decode(coded)
        if coded.packet is None:
            yield from self._sampler.restart(coded.lost)
        yield from self._sample(frames)

    def _take_packets(self, packets: Iterable[CodedPacket]) -> Iterator[SampledFrame | StreamBreak]:
        for coded in packets:
            if self._is_stopped():  # a long group takes software seconds
                return
            yield from self._take_packet(coded)

    def _sample(self, frames: Iterable[DecodedFrame]) -> Iterator[SampledFrame | StreamBreak]:
        for frame in frames:
            if self._stop.is_set():
                return
            yield from self._sampler.push(frame)
            self._on_frame(frame, self._converts)

    def _leave(self, decoder: str, reason: SoftwareReason, detail: str) -> None:
        """Decode in software from now on, and say why."""
        self._groups = self._packets = None
        self._fallback.note(decoder, reason, detail)

    def _count_corrupt(self) -> None:
        if self._counted:
            self._counted -= 1
        else:
            self._metrics.corrupt.labels(self._camera_id).inc()

    # By NVDEC -------------------------------------------------------------------------------------

    def _take_by_nvdec(
        self, path: PacketPath, coded: CodedPacket
    ) -> Iterator[SampledFrame | StreamBreak]:
        with self._metrics.stage.labels("decode").time():
            frames = path.push(coded)
        self._metrics.uploaded.labels("packets").inc(coded.size)
        if coded.packet is None:
            yield from self._sampler.restart(coded.lost)
        yield from self._sample(frames)
        if path.problem is not None:
            reason, detail = path.problem
            self._leave("NVDEC", reason, detail)
            yield from self._go_on(path, reason)

    def _go_on(
        self, path: PacketPath, reason: SoftwareReason
    ) -> Iterator[SampledFrame | StreamBreak]:
        """Go on in software with the packets that NVDEC did not finish."""
        path.close()
        kept = path.kept
        if kept.started_monotonic is not None:
            # Without any key frame, software may still make something of what comes.
            skips = not kept.is_whole and reason is not SoftwareReason.NO_KEY_FRAMES
            self._decoder.start_at(
                kept.started_monotonic,
                kept.packets_before,
                given_seconds=path.last_seconds,
                skips_to_key_frame=skips,
            )
        self._counted = kept.reported
        yield from self._take_packets(kept.rest())
        self._counted = 0

    def _note_look(self, facts: VideoFacts) -> None:
        message = facts.colour_message
        if message is not None and message not in self._looks:
            self._looks.add(message)
            self._log_fallback(message)

    # By DALI --------------------------------------------------------------------------------------

    def _take_group(self, groups: GroupPath, gop: Gop) -> Iterator[SampledFrame | StreamBreak]:
        frames = groups.plan(gop)
        if frames is not None:
            frames = self._decode_group(groups, gop, frames)
            if self._stop.is_set():
                return
        if frames is not None:
            self._metrics.gops.labels(self._camera_id, "dali").inc()
            self._metrics.uploaded.labels("packets").inc(sum(each.size for each in gop.packets))
            yield from self._sample(frames)
        elif groups.problem is None:
            yield from self._sample(self._decode_instead(gop))
        else:
            self._leave("DALI", *groups.problem)
            self._decoder.go_on(gop, self._before)
            yield from self._take_packets((*gop.packets, *groups.rest()))
        self._before = gop.packets if self._groups is not None else ()

    def _decode_group(
        self, groups: GroupPath, gop: Gop, frames: list[DecodedFrame]
    ) -> list[DecodedFrame] | None:
        """Decode what the sampler wants; return None if DALI cannot do it."""
        try:
            with self._metrics.stage.labels("decode").time():
                groups.decode(gop, frames, self._sampler.wanted(frames))
        except MediaError as error:
            groups.note_failure(SoftwareReason.ERRORS, str(error))
            return None
        return frames

    def _decode_instead(self, gop: Gop) -> list[DecodedFrame]:
        self._metrics.gops.labels(self._camera_id, "software").inc()
        with self._metrics.stage.labels("decode").time():
            return self._decoder.decode_group(gop, self._before)

    def _is_stopped(self) -> bool:
        self._on_wait()
        return self._stop.is_set()

    # Conversion -----------------------------------------------------------------------------------

    def _convert(self, native: Any) -> Any:
        if isinstance(native, GopFrame):
            if native.picture is None:
                raise MediaError("a frame was not decoded")
            picture, native.picture = native.picture, None  # the sampler keeps it if it repeats
        else:
            with self._metrics.stage.labels("convert").time():
                is_surface = isinstance(native, SurfaceFrame)
                picture = native.picture() if is_surface else self._converter(native)
        self._converts = True
        return picture

    def _count_unconverted(self, problem: str) -> None:
        self._metrics.dropped_frames.labels(self._camera_id, "conversion").inc()
        if self.unconverted == 0:
            _log.warning("camera %s: %s", self._camera_id, problem, extra=self._log_context)
        self.unconverted += 1
        self.conversion_problem = problem
        self._converts = False

    def _log_fallback(self, message: str) -> None:
        _log.warning("camera %s: %s", self._camera_id, message, extra=self._log_context)
