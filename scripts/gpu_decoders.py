"""A part of the GPU check: how many frames a second NVDEC gives to 7 up to 112 decoders."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.gpu_targets import print_figure

__all__ = ["CodedVideo", "SweepRow", "read_video", "run_sweep", "sweep_decoders"]

_COUNTS = (7, 14, 28, 56, 112)
_OPEN_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class CodedVideo:
    """A video as the packets that a hardware decoder takes, in decoding order, from a key frame.

    `keeps_order` says that frames are shown in the order of their packets: there are no B-frames.
    """

    codec: str
    size: tuple[int, int]
    keeps_order: bool
    packets: tuple[bytes, ...]

    @property
    def bytes_per_frame(self) -> float:
        """Mean size of a packet; this is what goes to the GPU for a frame."""
        return sum(len(packet) for packet in self.packets) / len(self.packets)


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """What a number of decoders did.

    Attributes:
        frames_per_second: of all decoders together.
        p50_ms, p95_ms: time of a call with one packet, which includes waiting for the thread.
        open_seconds: until all decoders were created.
    """

    decoders: int
    frames_per_second: float
    p50_ms: float
    p95_ms: float
    open_seconds: float


def sweep_decoders() -> None:
    """Print a table of frames a second, and the figures for the targets."""
    from benchmarks.loader import write_file
    from model.media.nvdec import nvdec_module
    from stream.ingest.decoder_pool import DecoderPool

    with tempfile.TemporaryDirectory() as name:
        video = read_video(write_file(Path(name) / "camera.mp4", (1920, 1080), 0))
    print(f"- H.264, 1920x1080, {video.bytes_per_frame / 1e3:.1f} kB a frame")
    print("\n| decoders | frames/s | ms a packet, p50 | p95 | seconds to open |")
    print("|---|---|---|---|---|")
    best = 0.0
    for count in _COUNTS:
        pool = DecoderPool(nvdec_module(), torch.device("cuda", torch.cuda.current_device()))
        try:
            row = run_sweep(pool, video, decoders=count, seconds=3.0)
        finally:
            pool.close()
        best = max(best, row.frames_per_second)
        print(
            f"| {row.decoders} | {row.frames_per_second:.0f} | {row.p50_ms:.2f} | {row.p95_ms:.2f}"
            f" | {row.open_seconds:.1f} |",
            flush=True,
        )
    print()
    print_figure("decoder_frames_per_second", best)


def read_video(path: Path) -> CodedVideo:
    """Read the packets of a video file as a hardware decoder takes them."""
    import av

    from model.media.elementary import ElementaryStream
    from model.media.remux import stream_template

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        codec = context.codec.canonical_name
        elementary = ElementaryStream(codec, stream_template(stream))
        packets = [packet for packet in container.demux(stream) if packet.size]
        coded = [
            elementary.convert(packet, starts=number == 0) for number, packet in enumerate(packets)
        ]
        keeps_order = not context.has_b_frames
        return CodedVideo(codec, (stream.width, stream.height), keeps_order, tuple(coded))


def run_sweep(pool: Any, video: CodedVideo, *, decoders: int, seconds: float) -> SweepRow:
    """Let decoders decode the same video as fast as they can, each fed by a thread of its own.

    Args:
        pool: a `DecoderPool`.

    Raises:
        AssertionError: a decoder could not be opened, failed, or gave no frame.
    """
    started_at = time.perf_counter()
    stop = threading.Event()
    go = threading.Barrier(decoders + 1)
    runners = [_Runner(pool, video, go, stop) for _ in range(decoders)]
    threads = [threading.Thread(target=runner.run, daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    try:
        go.wait(_OPEN_SECONDS)
    except threading.BrokenBarrierError:
        raise AssertionError(
            f"{decoders} decoders cannot be opened: {_problems(runners)}"
        ) from None
    opened_at = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join(_OPEN_SECONDS)
    took = time.perf_counter() - opened_at
    problems = _problems(runners)
    assert not problems, f"decoders failed: {problems}"
    assert all(runner.frames for runner in runners), "a decoder gave no frame"
    calls = 1e3 * np.concatenate([runner.call_seconds for runner in runners])
    p50, p95 = (float(value) for value in np.percentile(calls, [50, 95]))
    frames = sum(runner.frames for runner in runners)
    return SweepRow(decoders, frames / took, p50, p95, opened_at - started_at)


class _Runner:
    """One decoder; every frame is copied from its surface, as the pipeline does."""

    def __init__(
        self, pool: Any, video: CodedVideo, go: threading.Barrier, stop: threading.Event
    ) -> None:
        self._pool = pool
        self._video = video
        self._go = go
        self._stop = stop
        self.frames = 0
        self.call_seconds: list[float] = []
        self.problem = ""

    def run(self) -> None:
        """Decode until `stop` is set."""
        try:
            seat = self._pool.take_seat()
            try:
                self._decode(seat)
            finally:
                seat.close()
        except Exception as error:  # reported by `run_sweep`
            self.problem = f"{type(error).__name__}: {error}"
            self._go.abort()

    def _decode(self, seat: Any) -> None:
        video = self._video
        seat.open(codec=video.codec, max_size=video.size, keeps_order=video.keeps_order)
        seat.decode(video.packets[0], 0)  # the hardware decoder comes with the first packet
        self._go.wait(_OPEN_SECONDS)
        tag = 1
        while not self._stop.is_set():
            # The file begins with a key frame, so it can follow its own end.
            packet = video.packets[tag % len(video.packets)]
            started_at = time.perf_counter()
            self.frames += len(seat.decode(packet, tag))
            self.call_seconds.append(time.perf_counter() - started_at)
            tag += 1


def _problems(runners: Sequence[_Runner]) -> str:
    return "; ".join(dict.fromkeys(runner.problem for runner in runners if runner.problem))
