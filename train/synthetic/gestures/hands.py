"""A hand of a palm and five fingers: its pose, its look, and how it is drawn.

Hand axes, in units of about a palm's length: x to the thumb of a right hand, y to the fingers,
z out of the palm. An unturned hand shows its palm to the camera, with the fingers up.
"""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np

from train.synthetic.motions.body import FloatArray
from train.synthetic.view.drawing import Colour, Frame, colour_of, draw_line, draw_polygon, shaded

__all__ = ["HAND_LENGTH", "Hand", "HandLook", "blend", "draw_hand", "hand_joints", "random_skin"]

HAND_LENGTH = 1.95  # from the wrist to the tip of the middle finger
_PALM = np.array([[-0.3, 0, 0], [-0.42, 0.85, 0], [-0.12, 1, 0], [0.14, 1.02, 0], [0.43, 0.93, 0]])
_PALM = np.vstack([_PALM, [[0.46, 0.4, 0.0], [0.3, 0.0, 0.0]]])
_CENTRE = np.array([0.0, 0.6, 0.0])
# Thumb, index, middle, ring and little finger: root, lengths of the segments, width, direction.
_ROOTS = np.array([[0.33, 0.32, 0], [0.33, 0.9, 0], [0.11, 0.95, 0], [-0.11, 0.92, 0]])
_ROOTS = np.vstack([_ROOTS, [[-0.32, 0.83, 0.0]]])
_SEGMENTS = np.array([[0.39, 0.3, 0.23], [0.42, 0.28, 0.22], [0.47, 0.3, 0.23], [0.43, 0.28, 0.22]])
_SEGMENTS = np.vstack([_SEGMENTS, [[0.33, 0.22, 0.18]]])
_WIDTHS = (0.25, 0.21, 0.215, 0.2, 0.175)
_FAN = np.array([0.0, 0.12, 0.0, -0.1, -0.22])
_BENDS = np.radians([[75.0, 95.0, 65.0]])
_SKINS = ((255, 219, 190), (241, 194, 155), (224, 172, 115), (190, 130, 85), (120, 74, 45))


@dataclasses.dataclass(frozen=True)
class Hand:
    """The pose of one hand.

    `x` and `y` are in units of the frame's height from its centre, y down. `roll` turns the hand
    counterclockwise in the frame, `yaw` around the forearm (pi shows its back), `pitch` tips the
    fingers towards the camera; all are in radians. A curl is 0 for a straight finger and 1 for a
    bent one; the thumb comes first.
    """

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    spread: float = 1.0
    curls: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class HandLook:
    """The colours and form of a hand; `fatness` multiplies the width of the fingers."""

    skin: Colour
    gloved: bool
    fatness: float
    outline: float  # brightness of the outlines
    warmth: float  # how much redder the palm is than the back


def random_skin(rng: np.random.Generator) -> Colour:
    """Draw a colour of skin."""
    first, second = rng.choice(len(_SKINS), 2)
    part = rng.random()
    mixed = part * np.array(_SKINS[first]) + (1 - part) * np.array(_SKINS[second])
    return colour_of(mixed + rng.normal(0, 6, 3))


def blend(first: Hand, second: Hand, part: float) -> Hand:
    """Return the pose between two poses: the first at part 0, the second at part 1."""

    def mixed(name: str) -> float:
        start, end = float(getattr(first, name)), float(getattr(second, name))
        return start + (end - start) * part

    fields = ("x", "y", "scale", "roll", "yaw", "pitch", "spread")
    curls = np.array(first.curls) + (np.array(second.curls) - np.array(first.curls)) * part
    thumb, index, middle, ring, little = (float(curl) for curl in curls)
    numbers = {name: mixed(name) for name in fields}
    return Hand(**numbers, curls=(thumb, index, middle, ring, little))


def hand_joints(hand: Hand, side: float) -> tuple[FloatArray, FloatArray]:
    """Return the palm's corners, `[7, 3]`, and the fingers' joints, `[5, 4, 3]`.

    They are turned and scaled, around the palm's centre; y is up, z towards the camera.

    Args:
        side: 1 for a right hand, -1 for a left hand.
    """
    joints = np.concatenate([_PALM, _fingers(hand).reshape(-1, 3)]) - _CENTRE
    joints[:, 0] *= side
    turned = joints @ _rotation(hand, side).T
    turned[:, :2] *= 1 + 0.12 * turned[:, 2:]
    turned *= hand.scale
    return turned[: len(_PALM)], turned[len(_PALM) :].reshape(5, 4, 3)


def draw_hand(
    frame: Frame, hand: Hand, look: HandLook, *, side: float, centre: FloatArray, unit: float
) -> None:
    """Draw a hand around `centre` (pixels); `unit` is the length of a palm in pixels."""
    palm, fingers = hand_joints(hand, side)
    to_pixels = np.array([unit, -unit])
    faces = float(np.cos(hand.yaw) * np.cos(hand.pitch))
    skin = _seen_skin(look, faces)
    edge = shaded(skin, look.outline)
    order = sorted(range(5), key=lambda finger: float(fingers[finger, 1:, 2].mean()))
    behind = [finger for finger in order if fingers[finger, 1:, 2].mean() < 0]
    for finger in behind:
        _draw_finger(frame, centre + fingers[finger, :, :2] * to_pixels, finger, look, skin, unit)
    corners = cv2.convexHull((centre + palm[:, :2] * to_pixels).astype(np.float32))[:, 0]
    middle = corners.mean(axis=0)
    draw_polygon(frame, middle + (corners - middle) * (1 + 0.05), edge)
    draw_polygon(frame, corners, skin)
    for finger in order[len(behind) :]:
        points = centre + fingers[finger, :, :2] * to_pixels
        _draw_finger(frame, points, finger, look, skin, unit)


def _seen_skin(look: HandLook, faces: float) -> Colour:
    """Return the colour of the side that the camera sees: the palm is lighter and redder."""
    if look.gloved:
        return shaded(look.skin, 1.0 + 0.06 * faces)
    tint = np.array([14.0, 2.0, 0.0]) * look.warmth * faces
    return colour_of(np.array(look.skin) * (1.0 + 0.07 * faces) + tint)


def _draw_finger(
    frame: Frame, points: FloatArray, finger: int, look: HandLook, skin: Colour, unit: float
) -> None:
    width = max(1.5, _WIDTHS[finger] * look.fatness * unit)
    rim = max(1.0, 0.035 * unit)
    edge = shaded(skin, look.outline)
    for start, end in itertools.pairwise(points):
        draw_line(frame, start, end, edge, width + 2 * rim)
    for index, (start, end) in enumerate(itertools.pairwise(points)):
        draw_line(frame, start, end, shaded(skin, 1.0 + 0.03 * index), width * (1 - 0.06 * index))


def _fingers(hand: Hand) -> FloatArray:
    """Return the joints of the fingers of an unturned right hand, `[5, 4, 3]`."""
    curls = np.array(hand.curls)
    bends = np.cumsum(curls[:, None] * _BENDS, axis=1)
    aside = np.broadcast_to((_FAN * hand.spread)[:, None], bends.shape).copy()
    # The thumb does not bend like the fingers: it folds across the palm.
    fold = curls[0]
    aside[0] = np.radians([58, 48, 42]) * (0.6 + 0.4 * hand.spread) - fold * np.radians(
        [45, 95, 115]
    )
    bends[0] = fold * np.radians([50, 35, 25])
    steps = np.stack(
        [np.sin(aside) * np.cos(bends), np.cos(aside) * np.cos(bends), np.sin(bends)], axis=2
    )
    joints = np.cumsum(steps * _SEGMENTS[:, :, None], axis=1)
    return np.concatenate([_ROOTS[:, None], _ROOTS[:, None] + joints], axis=1)


def _rotation(hand: Hand, side: float) -> FloatArray:
    def turn(angle: float, first: int, second: int) -> FloatArray:
        matrix = np.eye(3)
        matrix[[first, second], [first, second]] = np.cos(angle)
        matrix[first, second] = -np.sin(angle)
        matrix[second, first] = np.sin(angle)
        return matrix

    around = turn(-hand.yaw * side, 2, 0)
    rotation: FloatArray = turn(hand.roll, 0, 1) @ turn(hand.pitch, 1, 2) @ around
    return rotation
