"""Videos in formats that DALI decodes on the CPU, and a decoding thread for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from model.media.gop_decoder import GopDecoder
from stream.ingest.decodable import DecoderDevice
from stream.ingest.decode_stage import DecodeStage

ON_CPU = DecoderDevice("cpu")
PIXEL_FORMATS = {"mjpeg": "yuvj420p"}
SUFFIXES = {"mjpeg": ".avi", "libvpx-vp9": ".webm", "libvpx": ".webm"}


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Draw a smooth grey picture that differs for each number: `H W 3`."""
    rows, columns = np.mgrid[0:height, 0:width]
    wave = 100 + 40 * np.sin(columns / 40 + number * 0.7) + 30 * np.cos(rows / 50 - number * 0.3)
    grey = np.clip(wave, 0, 255).astype(np.uint8)
    grey[: height // 8] = 30 + number * 29 % 190
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def write_video(
    path: Path,
    codec: str,
    numbers: Sequence[int],
    *,
    size: tuple[int, int] = (160, 128),
    fps: int = 15,
    gop: int = 10,
    ticks: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Encode the pictures of these numbers, and return the path.

    Args:
        ticks: the time of each picture in frames; default: one after the other.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
        stream.gop_size = gop
        if codec.startswith("libvpx"):
            options = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"} | options
        if codec == "mjpeg":
            options = {"qmin": "2", "qmax": "2"} | options
        stream.options = options
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@contextlib.contextmanager
def decoding_on_cpu(max_batch: int = 8) -> Iterator[DecodeStage]:
    """Run DALI's decoding thread on the CPU for as long as the block lasts."""
    stage = DecodeStage(GopDecoder(max_batch=max_batch), ON_CPU)
    stage.start()
    try:
        yield stage
    finally:
        stage.stop()
        assert stage.join(30)
    assert stage.failure is None


def coded_packets(path: Path) -> list[Any]:
    """Read the packets of a video, without the empty one at the end."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def join_videos(path: Path, parts: Sequence[Path], *, starts: Sequence[float]) -> Path:
    """Write the packets of several videos of one codec into one stream, and return its path.

    Args:
        starts: seconds on the time line at which each part begins.
    """
    with av.open(str(path), "w") as container:
        out = None
        for part, start in zip(parts, starts, strict=True):
            with av.open(str(part)) as source:
                template = source.streams.video[0]
                out = out or container.add_stream_from_template(template, opaque=True)
            for packet in coded_packets(part):
                copy = av.Packet(bytes(packet))
                copy.is_keyframe = packet.is_keyframe
                copy.time_base = Fraction(1, 1000)
                copy.pts = round((start + packet.pts * packet.time_base) * 1000)
                copy.dts = round((start + packet.dts * packet.time_base) * 1000)
                copy.stream = out
                container.mux_one(copy)
    return path


def damaged(path: Path, target: Path, *, packets: Sequence[int]) -> Path:
    """Copy a video, and overwrite these of its packets with zeros; return the path of the copy."""
    data = path.read_bytes()
    for index, packet in enumerate(coded_packets(path)):
        if index in packets:
            coded = bytes(packet)
            assert data.count(coded) == 1
            data = data.replace(coded, bytes(len(coded)))
    target.write_bytes(data)
    return target
