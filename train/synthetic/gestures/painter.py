"""Paints the frames of a gesture: background, person, arms and hands, blurred where they move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.gestures.arms import (
    ArmLook,
    Tool,
    bent_elbow,
    draw_arm,
    draw_tool,
)
from train.synthetic.gestures.hands import HAND_LENGTH, Hand, HandLook, draw_hand, hand_joints
from train.synthetic.gestures.motions import HandsAt
from train.synthetic.gestures.scene import FrameAt
from train.synthetic.gestures.sitter import Sitter, draw_sitter
from train.synthetic.motions.body import FloatArray
from train.synthetic.view.drawing import Colour, Frame, draw_disc, draw_polygon

__all__ = ["Cast", "painter"]

_MIN_BLUR = 0.015  # movement during the exposure, in units of the frame's height


@dataclasses.dataclass(frozen=True)
class Cast:
    """What a gesture's video shows before its background.

    `length` is the hand's length, and `anchor` the point outside the frame from which the arm
    comes, in units of the frame's height from its centre. `exposure` is in seconds.
    """

    hands: HandsAt
    look: HandLook
    arm: ArmLook
    side: float
    length: float
    anchor: tuple[float, float]
    exposure: float
    sitter: Sitter | None = None
    other: Callable[[float], Hand] | None = None
    tool: Tool | None = None
    cup: Colour | None = None


def painter(cast: Cast, background: FrameAt) -> FrameAt:
    """Return a function of time in seconds that paints a frame, `H W C`."""

    def at(time: float) -> Frame:
        first = cast.hands(time)
        last = cast.hands(time + cast.exposure)
        moved = max((_moved(a, b) for a, b in zip(first, last, strict=True)), default=0.0)
        frame = _painted(cast, background(time), time)
        if moved < _MIN_BLUR:
            return frame
        steps = 4 if moved > 3 * _MIN_BLUR else 2
        total = frame.astype(np.uint16)
        for step in range(1, steps):
            part = time + cast.exposure * step / (steps - 1)
            total += _painted(cast, background(time), part)
        mean: Frame = (total // steps).astype(np.uint8)
        return mean

    return at


def _moved(first: Hand, last: Hand) -> float:
    return float(np.hypot(last.x - first.x, last.y - first.y) + 0.1 * abs(last.roll - first.roll))


def _painted(cast: Cast, frame: Frame, time: float) -> Frame:
    if cast.sitter is not None:
        draw_sitter(frame, cast.sitter, time)
    if cast.other is not None:
        _paint_hand(cast, frame, cast.other(time), time, -cast.side)
    for index, hand in enumerate(cast.hands(time)):
        if cast.tool is not None:
            draw_tool(frame, cast.tool, _pixels(frame, (hand.x, hand.y)))
        else:
            _paint_hand(cast, frame, hand, time, cast.side if index == 0 else -cast.side)
    return frame


def _paint_hand(cast: Cast, frame: Frame, hand: Hand, time: float, side: float) -> None:
    unit = cast.length / HAND_LENGTH * frame.shape[0]
    centre = _pixels(frame, (hand.x, hand.y))
    palm, _ = hand_joints(hand, side)
    wrist = centre + (palm[0, :2] + palm[-1, :2]) / 2 * np.array([unit, -unit])
    size = unit * hand.scale
    if cast.sitter is not None:
        # A palm that faces the camera has its thumb towards the head.
        shoulder = _pixels(frame, cast.sitter.shoulder(-side, time))
        elbow = bent_elbow(shoulder, wrist, size, -side)
        draw_arm(frame, cast.arm, wrist=wrist, elbow=elbow, unit=size, shoulder=shoulder)
    else:
        x = cast.anchor[0] if side == cast.side else -cast.anchor[0]
        elbow = _pixels(frame, (x + 0.35 * hand.x, cast.anchor[1]))
        draw_arm(frame, cast.arm, wrist=wrist, elbow=elbow, unit=size)
    if cast.cup is not None and side == cast.side:
        _paint_cup(frame, cast.cup, centre, unit)
    draw_hand(frame, hand, cast.look, side=side, centre=centre, unit=unit)


def _paint_cup(frame: Frame, colour: Colour, centre: FloatArray, unit: float) -> None:
    corners = np.array([(-0.5, -0.9), (0.5, -0.9), (0.42, 0.6), (-0.42, 0.6)]) * unit
    draw_polygon(frame, centre + corners, colour)
    draw_disc(frame, centre - [0, 0.9 * unit], 0.3 * unit, (50, 30, 20))


def _pixels(frame: Frame, point: FloatArray | tuple[float, float]) -> FloatArray:
    height, width = frame.shape[:2]
    pixels: FloatArray = np.array([width / 2, height / 2]) + np.array(point) * height
    return pixels
