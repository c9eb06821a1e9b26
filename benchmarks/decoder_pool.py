"""Measure what Python costs for each packet that NVDEC decodes, with a decoder that costs nothing.

    python -m benchmarks.decoder_pool [--cameras 16 64 128] [--packets 6000] [--runs 5]

Each camera has a thread that hands its packets to the decoders' threads and waits, as in a live
pipeline; the packets are those of an H.264 stream of about 4 Mbit/s, as RTSP gives them. The fake
decoder returns a tiny surface at once, so that all the time is Python's. `live`: each camera sends
25 packets per second. `at most`: all send as fast as they can; this bounds how many cameras one
process decodes, whatever the GPU can do, because Python runs one thread at a time. `in the camera's
thread` makes the same calls without handing over. The ways run in turns.
"""

from __future__ import annotations

import argparse
import io
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from stream.ingest.config import SourceConfig
from stream.ingest.decoder_lane import DecoderLane, Result
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.packet_path import PacketPath
from stream.ingest.prepared_packets import prepared_packets
from stream.types import CodedPacket

__all__ = ["main"]

_SIZE = (320, 240)
_FPS = 25
_GOP = 50
_LIVE_PACKETS = 40  # of each camera, at its frame rate
_CAPS = {
    "supported": True,
    "num_decoder_engines": 7,
    "width_max": 4096,
    "height_max": 4096,
    "mb_num_max": 65536,
    "width_min": 48,
    "height_min": 16,
}


class _Numbers:
    """Stands for an enumeration of the library: any name is a number."""

    def __getattr__(self, name: str) -> int:
        return 1


class _Frame:
    """A surface that is there already."""

    format = "Pixel_Format.NV12"
    _samples = torch.zeros(24, 16, dtype=torch.uint8)

    def __init__(self, tag: int) -> None:
        self._tag = tag

    def getPTS(self) -> int:  # noqa: N802 - the library's name
        return self._tag

    def __dlpack__(self, **options: object) -> Any:
        return self._samples.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._samples.__dlpack_device__()


class _Decoder:
    """Gives a frame for each packet, at once."""

    def Decode(self, packet: Any) -> list[_Frame]:  # noqa: N802
        return [_Frame(packet.pts)] if packet.bsl else []


class _Library:
    """What `model.media.nvdec` uses of PyNvVideoCodec."""

    VideoPacketFlag = cudaVideoCodec = DisplayDecodeLatencyType = _Numbers()
    cudaVideoChromaFormat = _Numbers()

    class PacketData:
        """A packet: its address, length and numbers."""

    def GetDecoderCaps(self, **asked: object) -> dict[str, int]:  # noqa: N802
        return _CAPS

    def CreateDecoder(self, **settings: object) -> _Decoder:  # noqa: N802
        return _Decoder()


class _Direct(DecoderLane):
    """A lane that makes its calls in the camera's thread."""

    def call(self, work: Callable[[], Result], is_stopped: Callable[[], bool]) -> Result:
        return work()


class _DirectPool(DecoderPool):
    def _new_lane(self) -> DecoderLane:
        return _Direct(0, torch.device("cpu"), 10.0)


_WAYS: dict[str, type[DecoderPool]] = {
    "in the camera's thread": _DirectPool,
    "in the pool": DecoderPool,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cameras", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--packets", type=int, default=6000, help="of all cameras, in each run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    packets = _packets()
    table = Table("cameras", "way", "CPU us, live", "CPU us, at most", "us, at most", "cameras")
    for cameras in options.cameras:
        times: dict[str, list[tuple[float, float, float]]] = {way: [] for way in _WAYS}
        for _ in range(options.runs):
            for way, kind in _WAYS.items():
                _, live = _measure(kind, cameras, packets, _LIVE_PACKETS, fps=_FPS)
                rest = _measure(kind, cameras, packets, options.packets // cameras)
                times[way].append((live, rest[1], rest[0]))
        for way, found in times.items():
            columns = [[seconds * 1e6 for seconds in column] for column in zip(*found, strict=True)]
            shown = [
                f"{statistics.median(each):.0f} ({min(each):.0f} to {max(each):.0f})"
                for each in columns
            ]
            most = 1e6 / statistics.median(columns[2]) / _FPS
            table.add_row(str(cameras), way, *shown, f"{most:.0f}")
    Console(width=110).print(table)


def _measure(
    kind: type[DecoderPool],
    cameras: int,
    packets: list[CodedPacket],
    count: int,
    *,
    fps: float | None = None,
) -> tuple[float, float]:
    """Return seconds per packet, by the clock and of the processor.

    Args:
        count: packets of each camera.
        fps: at which each camera sends its packets; None: as fast as they are taken.
    """
    pool = kind(_Library(), torch.device("cpu"))
    ready = threading.Barrier(cameras + 1)
    opening = threading.Lock()
    given = [0] * cameras

    def run(number: int) -> None:
        path = PacketPath(pool, SourceConfig(), short_side=256, is_stopped=lambda: False)
        with opening:  # all share one codec context, which decodes the first key frame
            path.push(packets[0])
        ready.wait()
        started_at = time.perf_counter()
        for index in range(1, count):
            if fps is not None:
                due = started_at + (index + number / cameras) / fps
                time.sleep(max(0.0, due - time.perf_counter()))
            given[number] += len(path.push(packets[index % len(packets)]))
        assert path.problem is None, path.problem
        path.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(cameras)]
    for thread in threads:
        thread.start()
    ready.wait()
    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - started_at, time.process_time() - cpu_started_at
    pool.close()
    total = cameras * (count - 1)
    assert sum(given) == total, "a packet gave no frame"
    return wall / total, cpu / total


def _packets() -> list[CodedPacket]:
    """Encode one group of pictures with packets of about 20 kB, as RTSP gives them."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(3)
    with av.open(buffer, "w", format="mpegts") as container:
        stream: Any = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *_SIZE, "yuv420p", _GOP
        stream.options = {"bf": "0", "crf": "24", "preset": "ultrafast", "sc_threshold": "0"}
        for _ in range(_GOP):
            small = noise.integers(0, 256, (_SIZE[1] // 4, _SIZE[0] // 4, 3), np.uint8)
            picture = small.repeat(4, 0).repeat(4, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    source = av.open(buffer)
    coded = [
        CodedPacket(packet, index / _FPS, index / _FPS)
        for index, packet in enumerate(source.demux(video=0))
        if packet.size
    ]
    return list(prepared_packets(coded, lambda: True))


if __name__ == "__main__":
    main()
