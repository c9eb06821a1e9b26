"""Films a script into an H.264 file, with random light, camera shake, noise and compression."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from train.synthetic.script import Script
from train.synthetic.view.drawing import Frame
from train.synthetic.view.exposure import Exposure, exposure
from train.synthetic.view.looks import Look, random_look
from train.synthetic.view.render import render
from train.synthetic.view.room_painting import draw_room

__all__ = ["Look", "film", "frame_times", "frames_at", "random_look"]

_TIME_BASE = Fraction(1, 90_000)


def frame_times(look: Look, seconds: float, rng: np.random.Generator) -> list[float]:
    """Draw presentation times in seconds.

    With a variable rate, the time between two frames is random, from 1/30 to 1/12 of a second.
    """
    if not look.variable_rate:
        return [index / look.frame_rate for index in range(max(1, int(seconds * look.frame_rate)))]
    times = []
    time = 0.0
    while time < seconds:
        times.append(time)
        time += float(rng.uniform(1 / 30, 1 / 12))
    return times


def film(script: Script, path: Path, rng: np.random.Generator, look: Look | None = None) -> int:
    """Write `script` as an MP4 file; the same generator state gives the same bytes.

    Returns:
        The number of frames.
    """
    look = random_look(rng) if look is None else look
    times = frame_times(look, script.seconds, rng)
    expose = _exposure(look, script, rng)
    with av.open(str(path), "w", format="mp4") as container:
        stream = _add_stream(container, script, look)
        for frame_HWC, time in _frames(script, times, expose):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts = round(time / _TIME_BASE)
            frame.time_base = _TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return len(times)


def frames_at(
    script: Script, times: list[float], rng: np.random.Generator, look: Look
) -> Iterator[Frame]:
    """Yield the frames at these times in seconds, with light and noise but not compressed."""
    for frame_HWC, _ in _frames(script, times, _exposure(look, script, rng)):
        yield frame_HWC


def _add_stream(container: Any, script: Script, look: Look) -> Any:
    rate = Fraction(look.frame_rate).limit_denominator(1000)
    stream = container.add_stream("libx264", rate=rate)
    stream.width = script.camera.width
    stream.height = script.camera.height
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = _TIME_BASE
    stream.codec_context.gop_size = max(1, round(look.gop_seconds * look.frame_rate))
    stream.codec_context.max_b_frames = look.b_frames
    # The encoder's output must not depend on the machine or on chance: one thread, and no
    # "mbtree", which gives other bytes each time when there are B-frames.
    stream.options = {
        "preset": look.preset,
        "crf": str(look.crf),
        "threads": "1",
        "x264-params": "mbtree=0",
    }
    return stream


def _frames(script: Script, times: list[float], expose: Exposure) -> Iterator[tuple[Frame, float]]:
    if script.frame_at is not None:
        yield from ((expose(script.frame_at(time), time), time) for time in times)
        return
    background = draw_room(script.room, script.camera)
    for time in times:
        people = script.people(time)
        frame = render(background, script.room, script.camera, people, script.on_floor(time))
        yield expose(frame, time), time


def _exposure(look: Look, script: Script, rng: np.random.Generator) -> Exposure:
    return exposure(look, script.camera.width, script.camera.height, rng)
