"""Draws the light, lens, sensor and encoder settings of a simulated camera."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Look", "random_look"]

_FRAME_RATES = (12.0, 15.0, 20.0, 24.0, 25.0, 30.0)


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
    blotches: float = 0.0  # coarse noise of the colours; standard deviation in grey levels
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of red, green and blue
    haze: float = 0.0  # grey levels that are added to black; white stays white
    blur: float = 0.0  # standard deviation in thousandths of the frame's height
    halo: float = 0.0  # strength of sharpening
    ghost: float = 0.0  # fraction of the previous frame that is still seen
    infrared: bool = False  # grey; bright where the lamp points and dark at the edges
    vignette: float = 0.0  # how much darker the corners are, from 0 to 1
    exposure_steps: tuple[tuple[float, float], ...] = ()  # pairs of seconds and gain from then on
    automatic: float = 0.0  # how far the exposure follows the room's brightness, from 0 to 1
    backlight: float = 0.0  # fraction by which bright areas make the rest darker


def random_look(rng: np.random.Generator) -> Look:
    """Draw a camera's light, noise and encoder settings: by day, by night or with infrared."""
    look = Look(
        frame_rate=float(rng.choice(_FRAME_RATES)),
        variable_rate=bool(rng.random() < 0.25),
        gamma=float(rng.uniform(0.75, 1.35)),
        gain=float(rng.uniform(0.6, 1.15)),
        flicker=(float(rng.uniform(0.04, 0.2)), float(rng.uniform(0.3, 6)))
        if rng.random() < 0.15
        else (0.0, 1.0),
        shake=(float(rng.uniform(0.002, 0.012)), float(rng.uniform(0.3, 2.5)))
        if rng.random() < 0.3
        else (0.0, 1.0),
        noise=float(rng.uniform(0, 6)) if rng.random() < 0.8 else 0.0,
        crf=int(rng.integers(22, 41)),
        preset=str(rng.choice(["ultrafast", "superfast", "veryfast"])),
        gop_seconds=float(rng.uniform(1, 4)),
        b_frames=int(rng.choice([0, 0, 2])),
        blotches=float(rng.uniform(0, 3)),
        cast=_random_cast(rng, 0.08),
        haze=float(rng.uniform(5, 60)) if rng.random() < 0.3 else 0.0,
        blur=float(rng.uniform(0.8, 4.5)) if rng.random() < 0.5 else 0.0,
        halo=float(rng.uniform(0.3, 1.2)) if rng.random() < 0.3 else 0.0,
        vignette=float(rng.uniform(0, 0.4)) if rng.random() < 0.3 else 0.0,
        exposure_steps=_random_steps(rng) if rng.random() < 0.2 else (),
        automatic=float(rng.uniform(0.4, 1.0)),
        backlight=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.15 else 0.0,
    )
    night = dataclasses.replace(look, **_random_night(rng))
    infrared = dataclasses.replace(look, **_random_infrared(rng))
    return (look, night, infrared)[int(rng.choice(3, p=[0.7, 0.18, 0.12]))]


def _random_cast(rng: np.random.Generator, spread: float) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in 1.0 + rng.normal(0, spread, 3).clip(-0.3, 0.3))
    return red, green, blue


def _random_steps(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    times = np.sort(rng.uniform(0, 6, int(rng.integers(1, 4))))
    return tuple((float(time), float(rng.uniform(0.75, 1.25))) for time in times)


def _random_night(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the fields that differ at night: dark, noisy, with long exposures."""
    return {
        "gain": float(rng.uniform(0.32, 0.7)),
        "gamma": float(rng.uniform(0.8, 1.3)),
        "noise": float(rng.uniform(3, 11)),
        "blotches": float(rng.uniform(2, 7)),
        "cast": _random_cast(rng, 0.15),
        "ghost": float(rng.uniform(0.0, 0.45)),
        "halo": 0.0,
    }


def _random_infrared(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "infrared": True,
        "gain": float(rng.uniform(0.8, 1.3)),
        "gamma": float(rng.uniform(0.55, 0.95)),
        "vignette": float(rng.uniform(0.3, 0.8)),
        "haze": 0.0,
        "noise": float(rng.uniform(1, 9)),
        "blotches": 0.0,
        "cast": (1.0, 1.0, 1.0),
        "ghost": float(rng.uniform(0.0, 0.3)),
    }
