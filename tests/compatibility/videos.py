"""Videos that are the same on every machine: frames from a formula, stored without loss."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

LABELS = ("background", "fall", "wave")
HEIGHT = 48
WIDTH = 80
_FRAMES = 40


def write_videos(folder: Path, count: int = 6) -> Path:
    """Write that many labelled videos of 40 frames; returns their manifest."""
    lines = []
    for number in range(count):
        name = f"{number}.mkv"
        write_video(folder / name, number)
        lines.append(f"{name},{LABELS[number % len(LABELS)]}\n")
    manifest = folder / "videos.csv"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def write_video(path: Path, number: int) -> None:
    """Write one video of 48 x 80 pixels at 15 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=15)
        stream.width = WIDTH
        stream.height = HEIGHT
        stream.pix_fmt = "gray"
        for index in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(_pixels(number, index), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pixels(number: int, index: int) -> NDArray[np.uint8]:
    """A bright square that moves over stripes, to the right or down."""
    columns = np.arange(WIDTH)[None, :]
    rows = np.arange(HEIGHT)[:, None]
    stripes = (columns * (3 + number) + rows * 5) % 100
    place = index % 32
    top, left = (8, place) if number % 2 else (place, 8 + number)
    stripes[top : top + 16, left : left + 16] = 220
    return stripes.astype(np.uint8)
