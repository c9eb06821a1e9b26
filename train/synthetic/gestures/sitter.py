"""The upper body and head of a person who sits before a webcam."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from train.synthetic.gestures.paths import Path, tremor
from train.synthetic.motions.body import FloatArray
from train.synthetic.view.drawing import Colour, Frame, colour_of, draw_disc, draw_polygon, shaded

__all__ = ["Sitter", "draw_sitter", "random_sitter"]


@dataclasses.dataclass(frozen=True)
class Sitter:
    """A person in the frame; lengths are in units of the frame's height, x and y from its centre.

    `size` is the height of the head; `sway` and `gaze` are movements of the body and of the face
    within the head, as functions of time in seconds.
    """

    x: float
    y: float
    size: float
    skin: Colour
    hair: Colour
    clothes: Colour
    long_hair: bool
    glasses: bool
    sway: Path
    gaze: Path

    def head(self, time: float) -> FloatArray:
        """Return the centre of the head."""
        return np.array([self.x, self.y]) + self.sway(time)

    def shoulder(self, side: float, time: float) -> FloatArray:
        """Return the shoulder at the right (side 1) or left (side -1) of the frame."""
        return self.head(time) + np.array([side * 0.95, 1.2]) * self.size


def random_sitter(rng: np.random.Generator, skin: Colour, clothes: Colour) -> Sitter:
    """Draw a person; a hand of this skin and a sleeve of these clothes belong to it."""
    size = float(rng.uniform(0.2, 0.42))
    turns = float(rng.choice([0.02, 0.05, 0.3]))
    return Sitter(
        x=float(rng.uniform(-0.25, 0.25)),
        y=float(rng.uniform(-0.3, -0.02)),
        size=size,
        skin=skin,
        hair=colour_of(rng.uniform(10, 70) + rng.uniform(0, 1) * np.array([110, 80, 40])),
        clothes=clothes,
        long_hair=bool(rng.random() < 0.4),
        glasses=bool(rng.random() < 0.25),
        sway=tremor(rng, float(rng.uniform(0.001, 0.012))),
        gaze=tremor(rng, turns * 0.3),
    )


def draw_sitter(frame: Frame, sitter: Sitter, time: float) -> None:
    """Draw torso, neck, head, hair and a face that looks about."""
    height, width = frame.shape[:2]
    centre = np.array([width / 2, height / 2]) + sitter.head(time) * height
    size = sitter.size * height
    torso = [(-0.3, 0.6), (0.3, 0.6), (0.8, 0.92), (1.1, 1.3), (1.3, 4.0), (-1.3, 4.0)]
    torso += [(-1.1, 1.3), (-0.8, 0.92)]
    if sitter.long_hair:
        _ellipse(frame, centre + _down(0.15 * size), (0.5 * size, 0.75 * size), sitter.hair)
    draw_polygon(frame, centre + np.array(torso) * size, sitter.clothes)
    neck = np.array([(-0.2, 0.3), (0.2, 0.3), (0.24, 0.72), (0.0, 0.85), (-0.24, 0.72)])
    draw_polygon(frame, centre + neck * size, shaded(sitter.skin, 0.82))
    _ellipse(frame, centre - _down(0.08 * size), (0.43 * size, 0.54 * size), sitter.hair)
    _ellipse(frame, centre + _down(0.05 * size), (0.36 * size, 0.46 * size), sitter.skin)
    _draw_face(frame, sitter, centre + sitter.gaze(time).clip(-0.2, 0.2) * size, size)


def _draw_face(frame: Frame, sitter: Sitter, centre: FloatArray, size: float) -> None:
    dark = shaded(sitter.skin, 0.55)
    for side in (-1, 1):
        eye = centre + np.array([side * 0.15, 0.0]) * size
        draw_disc(frame, eye, 0.045 * size, (235, 235, 230))
        draw_disc(frame, eye, 0.03 * size, (30, 25, 20))
        _ellipse(frame, eye - _down(0.09 * size), (0.08 * size, 0.02 * size), sitter.hair)
        if sitter.glasses:
            radius = round(0.1 * size)
            spot = (round(float(eye[0])), round(float(eye[1])))
            cv2.circle(frame, spot, radius, (20, 20, 20), max(1, radius // 6), cv2.LINE_AA)
    _ellipse(
        frame, centre + _down(0.13 * size), (0.04 * size, 0.07 * size), shaded(sitter.skin, 0.8)
    )
    _ellipse(frame, centre + _down(0.29 * size), (0.12 * size, 0.03 * size), dark)


def _ellipse(frame: Frame, centre: FloatArray, axes: tuple[float, float], colour: Colour) -> None:
    spot = (round(float(centre[0])), round(float(centre[1])))
    sizes = (max(1, round(axes[0])), max(1, round(axes[1])))
    cv2.ellipse(frame, spot, sizes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _down(pixels: float) -> FloatArray:
    return np.array([0.0, pixels])
