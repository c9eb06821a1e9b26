"""Videos and pictures that cost more than they look like."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av

__all__ = ["write_flat_png", "write_flat_video", "write_many_tracks"]


def write_flat_png(path: Path, width: int, height: int) -> Path:
    """Write a black PNG, a row at a time."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in parts:
            file.write(struct.pack(">I", len(body)) + kind + body)
            file.write(struct.pack(">I", zlib.crc32(kind + body)))
    return path


def write_flat_video(path: Path, width: int, height: int, *, codec: str = "libx264") -> Path:
    """Write two frames of black; the ending of the name is the container's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"preset": "ultrafast"} if codec == "libx264" else {}
        frame = av.VideoFrame(width, height, stream.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(2):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_many_tracks(path: Path, tracks: int) -> Path:
    """Write an MP4 whose index names the same small video track many times."""
    write_flat_video(path, 64, 64)
    data = path.read_bytes()
    boxes = _boxes(data)
    moov = boxes[b"moov"]
    inner = _boxes(moov[8:])
    track = inner[b"trak"]
    copies = b"".join(
        # The number of a track stands 20 bytes into its header, which comes first.
        track[:28] + struct.pack(">I", number) + track[32:]
        for number in range(1, tracks + 1)
    )
    content = inner[b"mvhd"] + copies
    boxes[b"moov"] = struct.pack(">I", 8 + len(content)) + b"moov" + content
    path.write_bytes(b"".join(boxes.values()))
    return path


def _boxes(data: bytes) -> dict[bytes, bytes]:
    """Split the boxes of an MP4 file (ISO/IEC 14496-12), by their types."""
    found = {}
    at = 0
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        found[data[at + 4 : at + 8]] = data[at : at + size]
        at += size
    return found
