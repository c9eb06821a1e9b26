"""From a script to an H.264 file: frame times, light, shake, sensor noise and compression."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from train.synthetic.script import Script
from train.synthetic.stage import Picture, draw_room, render

__all__ = ["Look", "film", "frame_times", "random_look"]

_TIME_BASE = Fraction(1, 90_000)
_FRAME_RATES = (12.0, 15.0, 20.0, 24.0, 25.0, 30.0)


@dataclasses.dataclass(frozen=True)
class Look:
    """How a camera sees and compresses: drawn once per file."""

    frame_rate: float
    variable_rate: bool
    gamma: float
    gain: float
    flicker: tuple[float, float]  # amplitude, hertz
    shake: tuple[float, float]  # share of the picture's height, hertz
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
    """Presentation times in seconds; a variable-rate camera wanders between 12 and 30 frames a
    second.
    """
    if not look.variable_rate:
        return [index / look.frame_rate for index in range(max(1, int(seconds * look.frame_rate)))]
    times = []
    clock = 0.0
    while clock < seconds:
        times.append(clock)
        clock += float(rng.uniform(1 / 30, 1 / 12))
    return times


def film(script: Script, path: Path, rng: np.random.Generator, look: Look | None = None) -> int:
    """Write `script` as an MP4 file; returns the number of frames. The same generator state
    gives the same bytes.
    """
    look = random_look(rng) if look is None else look
    times = frame_times(look, script.seconds, rng)
    expose = _exposure(look, script, rng)
    background = draw_room(script.room, script.camera)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(look.frame_rate).limit_denominator(1000)
        )
        stream.width = script.camera.width
        stream.height = script.camera.height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = max(1, round(look.gop_seconds * look.frame_rate))
        stream.codec_context.max_b_frames = look.b_frames
        # One thread: the encoder's output must not depend on the machine.
        stream.options = {"preset": look.preset, "crf": str(look.crf), "threads": "1"}
        for picture, time in _pictures(script, background, times, expose):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(time / _TIME_BASE)
            frame.time_base = _TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return len(times)


def _pictures(
    script: Script,
    background: Picture,
    times: list[float],
    expose: Callable[[Picture, float], Picture],
) -> Iterator[tuple[Picture, float]]:
    for time in times:
        picture = render(
            background, script.room, script.camera, script.people(time), script.on_floor(time)
        )
        yield expose(picture, time), time


def _exposure(
    look: Look, script: Script, rng: np.random.Generator
) -> Callable[[Picture, float], Picture]:
    """Shake, light and noise as one function of a picture and its time."""
    height = script.camera.height
    width = script.camera.width
    phases = rng.uniform(0, 2 * np.pi, 4)
    amplitude = look.shake[0] * height
    hertz = look.shake[1]
    grain = _grain(look.noise, height, width, rng)
    levels = (np.arange(256) / 255.0) ** look.gamma * 255.0 * look.gain

    def expose(picture: Picture, time: float) -> Picture:
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
            picture = cv2.warpAffine(picture, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        light = 1.0 + look.flicker[0] * np.sin(phases[0] + 6.28 * look.flicker[1] * time)
        picture = cv2.LUT(picture, np.clip(levels * light, 0, 255).astype(np.uint8))
        return grain(picture)

    return expose


def _grain(
    sigma: float, height: int, width: int, rng: np.random.Generator
) -> Callable[[Picture], Picture]:
    """Sensor noise: one large tile of grain, read at a new random offset for every frame."""
    if sigma == 0.0:
        return lambda picture: picture
    margin = 64
    tile = np.clip(rng.normal(128, sigma, (height + margin, width + margin, 3)), 0, 255).astype(
        np.uint8
    )

    def add(picture: Picture) -> Picture:
        y, x = (int(value) for value in rng.integers(0, margin, 2))
        grainy: Picture = cv2.addWeighted(
            picture, 1.0, tile[y : y + height, x : x + width], 1.0, -128.0
        )
        return grainy

    return add
