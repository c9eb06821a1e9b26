"""Draws the script of a gesture's video: view, hand, background, and the time of the gesture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from train.synthetic.actions import BACKGROUND
from train.synthetic.gestures.arms import random_arm, random_tool
from train.synthetic.gestures.hands import Hand, HandLook, blend, random_skin
from train.synthetic.gestures.idle import draw_idle, resting
from train.synthetic.gestures.motions import POINTING, Act, HandsAt, Stage, draw_act
from train.synthetic.gestures.painter import Cast, painter
from train.synthetic.gestures.paths import minimum_jerk, tremor
from train.synthetic.gestures.scene import draw_background, random_colour
from train.synthetic.gestures.sitter import Sitter, random_sitter
from train.synthetic.script import Script
from train.synthetic.truth import CLIP_SECONDS, MIN_ACTION_FRACTION, Interval
from train.synthetic.view.camera import Camera
from train.synthetic.view.room import Room

__all__ = ["gesture_script"]

# The encoder repeats its bytes where a row of 16-pixel blocks is a multiple of eight long.
_SIZES = ((384, 288), (512, 288), (512, 288), (512, 384), (640, 360), (640, 480))
_NO_ROOM = Room(1.0, (), (0, 0, 0), (0, 0, 0), None, (), (0, 0, 0), 0)
_HandAt: TypeAlias = Callable[[float], Hand]
_VIEWS = ("webcam", "webcam", "webcam", "close", "close", "first_person", "table")


def gesture_script(label: str, rng: np.random.Generator) -> Script:
    """Draw a trimmed video; `label` is correct for every clip of 32 frames in the video.

    Args:
        label: one of `GESTURES`, or `BACKGROUND` for hands that make none of them.
    """
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    view = str(rng.choice(_VIEWS))
    skin, clothes = random_skin(rng), random_colour(rng)
    sitter = random_sitter(rng, skin, clothes) if view == "webcam" else None
    stage = _draw_stage(rng, view, width / height, sitter)
    hands, interval, seconds, kind = _draw_hands(label, rng, stage)
    gloved = bool(rng.random() < 0.08)
    look = HandLook(
        skin=random_colour(rng) if gloved else skin,
        gloved=gloved,
        fatness=float(rng.uniform(0.85, 1.15)),
        outline=float(rng.uniform(0.5, 0.8)),
        warmth=float(rng.uniform(0, 1)),
    )
    with_other = view != "table" and rng.random() < 0.3
    cast = Cast(
        hands=_trembling(rng, hands),
        look=look,
        arm=random_arm(rng, skin, clothes),
        side=stage.side,
        length=_draw_length(rng, view, sitter),
        anchor=_draw_anchor(rng, view, width / height, stage.side)
        if label not in ("thumb_up", "thumb_down")
        else _behind(hands(seconds / 2)[0]),
        exposure=float(rng.choice([0.0, 0.01, 0.02, 0.035])),
        sitter=sitter,
        other=_other_hand(rng, stage) if with_other and len(hands(0.0)) == 1 else None,
        tool=random_tool(rng) if label in POINTING and rng.random() < 0.12 else None,
        cup=random_colour(rng) if kind == "cup" else None,
    )
    background = draw_background(rng, width, height, table=view == "table")
    camera = Camera(width, height, float(width), 1.0, 0.0, 0.0)
    intervals = (interval,) if interval else ()
    frame_at = painter(cast, background)
    return Script(camera, _NO_ROOM, seconds, lambda t: [], intervals, lambda t: [], frame_at)


def _draw_hands(
    label: str, rng: np.random.Generator, stage: Stage
) -> tuple[HandsAt, Interval | None, float, str]:
    """Return hands over time, the gesture's interval, the video's length, and the idle kind."""
    if label == BACKGROUND:
        seconds = CLIP_SECONDS + float(rng.uniform(0.2, 1.0))
        kind, hands = draw_idle(rng, stage, seconds)
        return hands, None, seconds, kind
    act = draw_act(label, rng, stage)
    before = CLIP_SECONDS - MIN_ACTION_FRACTION * min(act.seconds, CLIP_SECONDS)
    interval = Interval(label, before, before + act.seconds)
    return _prepared(rng, act, stage, before), interval, 2 * before + act.seconds, ""


def _prepared(rng: np.random.Generator, act: Act, stage: Stage, start: float) -> HandsAt:
    """Let the hands come before the gesture and go after it; some are there all the time."""
    comes, goes = (bool(value) for value in rng.random(2) < 0.7)
    arrival, departure = (float(value) for value in rng.uniform(0.35, 0.9, 2))
    waits, holds = (float(value) for value in rng.uniform(0.0, 0.4, 2))
    end = start + act.seconds
    rests = (resting(rng, stage), resting(rng, stage))

    def at(t: float) -> tuple[Hand, ...]:
        hands = act.at(float(np.clip((t - start) / act.seconds, 0, 1)))
        part = 0.0
        if t < start and comes:
            part = 1 - minimum_jerk((t - start + waits + arrival) / arrival)
        elif t > end and goes:
            part = minimum_jerk((t - end - holds) / departure)
        if part == 0.0:
            return hands
        rest = rests[0] if t < start else rests[1]
        other = dataclasses.replace(rest, x=-rest.x)
        return tuple(
            blend(hand, rest if index == 0 else other, part) for index, hand in enumerate(hands)
        )

    return at


def _trembling(rng: np.random.Generator, hands: HandsAt) -> HandsAt:
    quiver = tremor(rng, float(rng.uniform(0.0005, 0.006)))
    turning = tremor(rng, float(rng.uniform(0.0, 0.05)))

    def at(t: float) -> tuple[Hand, ...]:
        dx, dy = (float(value) for value in quiver(t))
        roll, yaw = (float(value) for value in turning(t))
        return tuple(
            dataclasses.replace(
                hand, x=hand.x + dx, y=hand.y + dy, roll=hand.roll + roll, yaw=hand.yaw + yaw
            )
            for hand in hands(t)
        )

    return at


def _draw_stage(rng: np.random.Generator, view: str, aspect: float, sitter: Sitter | None) -> Stage:
    side = float(rng.choice([-1, 1]))
    palm = view in ("webcam", "close") and rng.random() < 0.8
    reach = float(rng.uniform(0.13, 0.3))
    free = max(0.05, aspect / 2 - 1.2 * reach - 0.1)
    x = -side * float(rng.uniform(0.0, 1.0)) * min(free, 0.35)
    if sitter is not None:
        x = float(np.clip(sitter.x - side * rng.uniform(0.1, 0.42), -free, free))
    home = Hand(
        x=x,
        y=float(rng.uniform(-0.12, 0.12)),
        roll=float(rng.normal(0, 0.2)) - side * 0.1,
        yaw=(0.0 if palm else float(np.pi)) + float(rng.normal(0, 0.25)),
        pitch=float(rng.normal(0, 0.2)),
    )
    return Stage(home, reach, side)


def _draw_length(rng: np.random.Generator, view: str, sitter: Sitter | None) -> float:
    """Return the hand's length in units of the frame's height; it fits the head."""
    if sitter is not None:
        return float(np.clip(sitter.size * rng.uniform(0.75, 1.15), 0.15, 0.5))
    return float(rng.uniform(0.25, 0.6) if view != "table" else rng.uniform(0.2, 0.5))


def _draw_anchor(
    rng: np.random.Generator, view: str, aspect: float, side: float
) -> tuple[float, float]:
    """Return a point outside the frame from which the arm comes."""
    if view == "close" and rng.random() < 0.4:
        return -side * (aspect / 2 + 0.3), float(rng.uniform(0.1, 0.8))
    if view == "first_person":
        return side * float(rng.uniform(0.1, 0.6)), 1.1
    return -side * float(rng.uniform(0.0, 0.6)), float(rng.uniform(0.9, 1.2))


def _behind(hand: Hand) -> tuple[float, float]:
    """Return a point far behind the wrist, from which a straight arm comes."""
    return hand.x + 1.6 * float(np.sin(hand.roll)), hand.y + 1.6 * float(np.cos(hand.roll))


def _other_hand(rng: np.random.Generator, stage: Stage) -> _HandAt:
    """Return the other hand, which rests low in the frame or moves a little."""
    low = dataclasses.replace(resting(rng, stage), x=-stage.home.x, y=float(rng.uniform(0.3, 0.5)))
    drift = tremor(rng, float(rng.choice([0.003, 0.02, 0.06])))

    def at(t: float) -> Hand:
        dx, dy = (float(value) for value in drift(t))
        return dataclasses.replace(low, x=low.x + dx, y=low.y + dy)

    return at
