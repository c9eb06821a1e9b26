"""Films a script into an H.264 file, with random light, camera shake, noise and compression."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import cv2
import numpy as np

from train.synthetic.drawing import Frame
from train.synthetic.render import render
from train.synthetic.room_painting import draw_room
from train.synthetic.script import Script

__all__ = ["Look", "film", "frame_times", "frames_at", "random_look"]

_TIME_BASE = Fraction(1, 90_000)
_FRAME_RATES = (12.0, 15.0, 20.0, 24.0, 25.0, 30.0)
_Exposure: TypeAlias = Callable[[Frame, float], Frame]


@dataclasses.dataclass(frozen=True)
class Look:
    """The image and encoder settings of a simulated camera; they are drawn once for each file."""

    frame_rate: float
    variable_rate: bool
    gamma: float
    gain: float
    flicker: tuple[float, float]  # amplitude, hertz
    shake: tuple[float, float]  # fraction of the frame's height, hertz
    noise: float  # standard deviation in grey levels
    crf: int
    preset: str
    gop_seconds: float
    b_frames: int


def random_look(rng: np.random.Generator) -> Look:
    """Draw a camera's light, noise and encoder settings."""
    return Look(
        frame_rate=float(rng.choice(_FRAME_RATES)),
        variable_rate=bool(rng.random() < 0.25),
        gamma=float(rng.uniform(0.75, 1.35)),
        gain=float(rng.uniform(0.6, 1.15)),
        flicker=(float(rng.uniform(0.04, 0.2)), float(rng.uniform(0.3, 6)))
        if rng.random() < 0.25
        else (0.0, 1.0),
        shake=(float(rng.uniform(0.002, 0.012)), float(rng.uniform(0.3, 2.5)))
        if rng.random() < 0.3
        else (0.0, 1.0),
        noise=float(rng.uniform(0, 6)) if rng.random() < 0.8 else 0.0,
        crf=int(rng.integers(22, 36)),
        preset=str(rng.choice(["ultrafast", "superfast", "veryfast"])),
        gop_seconds=float(rng.uniform(1, 4)),
        b_frames=int(rng.choice([0, 0, 2])),
    )


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
    # One thread: the encoder's output must not depend on the machine.
    stream.options = {"preset": look.preset, "crf": str(look.crf), "threads": "1"}
    return stream


def _frames(script: Script, times: list[float], expose: _Exposure) -> Iterator[tuple[Frame, float]]:
    if script.frame_at is not None:
        yield from ((expose(script.frame_at(time), time), time) for time in times)
        return
    background = draw_room(script.room, script.camera)
    for time in times:
        people = script.people(time)
        frame = render(background, script.room, script.camera, people, script.on_floor(time))
        yield expose(frame, time), time


def _exposure(look: Look, script: Script, rng: np.random.Generator) -> _Exposure:
    """Return a function of a frame and its time in seconds that adds shake, light and noise."""
    height = script.camera.height
    width = script.camera.width
    phases = rng.uniform(0, 2 * np.pi, 4)
    amplitude = look.shake[0] * height
    hertz = look.shake[1]
    add_grain = _grain(look.noise, height, width, rng)
    levels = (np.arange(256) / 255.0) ** look.gamma * 255.0 * look.gain

    def expose(frame: Frame, time: float) -> Frame:
        if amplitude:
            dx = amplitude * (
                np.sin(phases[0] + 6.28 * hertz * time)
                + 0.6 * np.sin(phases[1] + 17.1 * hertz * time)
            )
            dy = amplitude * (
                np.sin(phases[2] + 5.03 * hertz * time)
                + 0.6 * np.sin(phases[3] + 14.2 * hertz * time)
            )
            shift = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
            frame = cv2.warpAffine(frame, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        light = 1.0 + look.flicker[0] * np.sin(phases[0] + 6.28 * look.flicker[1] * time)
        frame = cv2.LUT(frame, np.clip(levels * light, 0, 255).astype(np.uint8))
        return add_grain(frame)

    return expose


def _grain(
    sigma: float, height: int, width: int, rng: np.random.Generator
) -> Callable[[Frame], Frame]:
    """Return a function that adds sensor noise: a part of one noise image, at a random offset."""
    if sigma == 0.0:
        return lambda frame: frame
    margin = 64
    tile = rng.normal(128, sigma, (height + margin, width + margin, 3))
    tile = np.clip(tile, 0, 255).astype(np.uint8)

    def add(frame: Frame) -> Frame:
        y, x = (int(value) for value in rng.integers(0, margin, 2))
        grain = tile[y : y + height, x : x + width]
        grainy: Frame = cv2.addWeighted(frame, 1.0, grain, 1.0, -128.0)
        return grainy

    return add
