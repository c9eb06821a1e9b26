"""Turns drawn frames into what a camera records: shake, lens, light and sensor noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.view.drawing import Frame
from train.synthetic.view.looks import Look

__all__ = ["Exposure", "exposure"]

Exposure: TypeAlias = Callable[[Frame, float], Frame]
_Step: TypeAlias = Callable[[Frame], Frame]
_MEAN_LEVEL = 115.0  # which automatic exposure aims at


def exposure(look: Look, width: int, height: int, rng: np.random.Generator) -> Exposure:
    """Return a function of a frame and its time in seconds; frames must come in order of time."""
    phases = rng.uniform(0, 2 * np.pi, 4)
    shake = _shake(look, phases, width, height)
    steps = [
        step
        for step in (
            _lens(look, height),
            _vignette(look, width, height, rng),
            _ghost(look),
            _grain(look, height, width, rng),
            _grey if look.infrared else None,
        )
        if step is not None
    ]
    light_at = _light(look, float(phases[0]))

    def expose(frame: Frame, time: float) -> Frame:
        if look.infrared:
            frame = _pale(frame)
        frame = cv2.LUT(shake(frame, time), light_at(frame, time))
        for step in steps:
            frame = step(frame)
        return frame

    return expose


def _shake(look: Look, phases: NDArray[np.float64], width: int, height: int) -> Exposure:
    amplitude = look.shake[0] * height
    hertz = look.shake[1]
    if not amplitude:
        return lambda frame, _: frame

    def shaken(frame: Frame, time: float) -> Frame:
        dx = amplitude * (
            np.sin(phases[0] + 6.28 * hertz * time) + 0.6 * np.sin(phases[1] + 17.1 * hertz * time)
        )
        dy = amplitude * (
            np.sin(phases[2] + 5.03 * hertz * time) + 0.6 * np.sin(phases[3] + 14.2 * hertz * time)
        )
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        moved: Frame = cv2.warpAffine(frame, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        return moved

    return shaken


def _light(look: Look, phase: float) -> Callable[[Frame, float], NDArray[np.uint8]]:
    """Return a function that gives the table from drawn to recorded levels, `[256, 1, 3]`."""
    levels = (np.arange(256) / 255.0) ** look.gamma * look.gain
    table = levels[:, None, None] * np.array(look.cast) * (255.0 - look.haze)

    automatic: list[float] = []

    def at(frame: Frame, time: float) -> NDArray[np.uint8]:
        if not automatic:  # as bright as the first frame needs
            mean = float(frame[::8, ::8].mean())
            automatic.append(1.0 + look.automatic * (_MEAN_LEVEL / max(mean, 30.0) - 1.0))
        light = automatic[0] * (
            1.0 + look.flicker[0] * np.sin(phase + 6.28 * look.flicker[1] * time)
        )
        for start, gain in look.exposure_steps:
            light *= gain ** float(np.clip((time - start) / 0.4, 0, 1))
        if look.backlight:
            bright = float((frame[::16, ::16, 1] > 170).mean())
            light *= 1.0 - look.backlight * min(1.0, 4.0 * bright)
        recorded: NDArray[np.uint8] = np.clip(table * light + look.haze, 0, 255).astype(np.uint8)
        return recorded

    return at


def _lens(look: Look, height: int) -> _Step | None:
    """Return a function that blurs a frame, and that sharpens it again with bright halos."""
    sigma = look.blur * height / 1000
    side = 2 * int(np.ceil(1.5 * sigma)) + 1  # of the kernel; wider ones cost more than they add
    if not sigma and not look.halo:
        return None

    def seen(frame: Frame) -> Frame:
        if sigma:
            frame = cv2.GaussianBlur(frame, (side, side), sigma)
        if look.halo:
            radius = max(1, round(height / 240))
            smooth = cv2.blur(frame, (2 * radius + 1, 2 * radius + 1))
            frame = cv2.addWeighted(frame, 1 + look.halo, smooth, -look.halo, 0)
        return frame

    return seen


def _vignette(look: Look, width: int, height: int, rng: np.random.Generator) -> _Step | None:
    """Return a function that darkens a frame towards its corners; a lamp lights its middle."""
    if not look.vignette:
        return None
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    spread = 0.15 if look.infrared else 0.05
    middle = rng.normal(0, spread, 2)
    distance = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / np.sqrt(2)
    factor = np.clip(1.0 - look.vignette * distance ** float(rng.uniform(1.2, 2.5)), 0, 1)
    mask = np.repeat((factor * 255).astype(np.uint8)[..., None], 3, axis=2)
    return lambda frame: cv2.multiply(frame, mask, scale=1 / 255)


def _ghost(look: Look) -> _Step | None:
    """Return a function that mixes each frame with the one before, as long exposures do."""
    if not look.ghost:
        return None
    previous: list[Frame] = []

    def mix(frame: Frame) -> Frame:
        if previous:
            frame = cv2.addWeighted(frame, 1 - look.ghost, previous[0], look.ghost, 0)
        previous[:] = [frame]
        return frame

    return mix


def _grain(look: Look, height: int, width: int, rng: np.random.Generator) -> _Step | None:
    """Return a function that adds sensor noise: a part of one noise image, at a random offset."""
    if look.noise == 0.0 and look.blotches == 0.0:
        return None
    margin = 64
    size = (height + margin, width + margin)
    tile = rng.normal(128, look.noise, (*size, 3)).astype(np.float32)
    if look.blotches:
        cell = max(3, height // 60)
        coarse = rng.normal(0, look.blotches, (size[0] // cell, size[1] // cell, 3))
        tile += cv2.resize(coarse.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    tile = np.clip(tile, 0, 255).astype(np.uint8)

    def add(frame: Frame) -> Frame:
        y, x = (int(value) for value in rng.integers(0, margin, 2))
        grain = tile[y : y + height, x : x + width]
        grainy: Frame = cv2.addWeighted(frame, 1.0, grain, 1.0, -128.0)
        return grainy

    return add


def _pale(frame: Frame) -> Frame:
    """Return what infrared light shows: grey, and cloth and skin paler than by day."""
    mixed: Frame = cv2.transform(frame, np.full((3, 4), (0.35, 0.2, 0.15, 60.0)))
    return mixed


def _grey(frame: Frame) -> Frame:
    grey: Frame = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return grey
