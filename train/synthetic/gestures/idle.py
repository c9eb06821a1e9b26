"""What hands do when they make no gesture: they rest, scratch, hold a cup, type or wander."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from train.synthetic.gestures.hands import Hand, blend
from train.synthetic.gestures.motions import HandsAt, Stage, hand_shape
from train.synthetic.gestures.paths import Path, minimum_jerk, tremor, wandering

__all__ = ["draw_idle", "resting"]

_Draw: TypeAlias = Callable[[np.random.Generator, Stage, float], HandsAt]


def draw_idle(rng: np.random.Generator, stage: Stage, seconds: float) -> tuple[str, HandsAt]:
    """Draw the hands of a background video as a function of time in seconds.

    Returns:
        The kind, and the function.
    """
    kind = str(rng.choice(list(_KINDS)))
    return kind, _KINDS[kind](rng, stage, seconds)


def resting(rng: np.random.Generator, stage: Stage) -> Hand:
    """Draw the pose of a hand before and after a gesture: at the frame's lower edge or below."""
    hand = hand_shape(rng, stage.home, "relaxed", "flat", "fist")
    low = float(rng.choice([0.35, 0.55, 0.85, 0.85]))
    return dataclasses.replace(
        hand, x=stage.home.x * 1.1 + float(rng.normal(0, 0.05)), y=low + float(rng.normal(0, 0.03))
    )


def _rest(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "relaxed", "flat", "fist")
    hand = dataclasses.replace(hand, y=float(rng.uniform(0.1, 0.45)))
    return _shaken(hand, tremor(rng, float(rng.uniform(0.002, 0.012))))


def _scratch(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "relaxed", "relaxed", "point")
    hand = dataclasses.replace(hand, y=float(rng.uniform(-0.25, 0.15)), yaw=float(np.pi))
    rate, size = float(rng.uniform(2.0, 5.0)), float(rng.uniform(0.006, 0.02))
    phase = float(rng.uniform(0, 6))

    def at(t: float) -> tuple[Hand, ...]:
        shift = size * np.sin(phase + 2 * np.pi * rate * t)
        bent = 0.12 * np.sin(phase + 2 * np.pi * rate * t)
        thumb, index, middle, ring, little = (float(curl + bent) for curl in hand.curls)
        return (
            dataclasses.replace(
                hand, y=hand.y + float(shift), curls=(thumb, index, middle, ring, little)
            ),
        )

    return at


def _cup(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "relaxed")
    hand = dataclasses.replace(hand, curls=(0.5, 0.6, 0.6, 0.6, 0.6), roll=stage.side * 0.9)
    low = dataclasses.replace(hand, y=float(rng.uniform(0.25, 0.4)))
    high = dataclasses.replace(low, y=low.y - float(rng.uniform(0.0, 0.25)))
    start = float(rng.uniform(-1.0, seconds))
    quiver = tremor(rng, 0.006)

    def at(t: float) -> tuple[Hand, ...]:
        return _shaken(blend(low, high, minimum_jerk((t - start) / 1.6)), quiver)(t)

    return at


def _type(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "relaxed")
    gap = float(rng.uniform(0.12, 0.3))
    low = float(rng.uniform(0.25, 0.45))
    rates = rng.uniform(1.5, 5.0, (2, 5))
    phases = rng.uniform(0, 6, (2, 5))
    drift = [tremor(rng, 0.02), tremor(rng, 0.02)]

    def one(index: int, t: float) -> Hand:
        side = stage.side if index == 0 else -stage.side
        press = 0.4 + 0.2 * np.sin(phases[index] + 2 * np.pi * rates[index] * t)
        thumb, first, middle, ring, little = (float(curl) for curl in press)
        dx, dy = (float(value) for value in drift[index](t))
        return dataclasses.replace(
            hand,
            x=-side * gap + dx,
            y=low + dy,
            yaw=float(np.pi),
            curls=(thumb, first, middle, ring, little),
        )

    return lambda t: (one(0, t), one(1, t))


def _wander(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "relaxed", "flat", "point", "open", "fist")
    path = wandering(rng)
    speed = float(rng.uniform(0.3, 1.0))
    reach = float(rng.uniform(0.3, 0.8)) * stage.reach

    def at(t: float) -> tuple[Hand, ...]:
        dx, dy = (float(value) * reach for value in path(speed * t))
        return (dataclasses.replace(hand, x=hand.x + dx, y=hand.y + dy, roll=hand.roll - dx),)

    return at


def _come_or_go(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    """Raise a relaxed hand into view, or lower it, and hold it."""
    hand = hand_shape(rng, stage.home, "relaxed")
    first, last = resting(rng, stage), hand
    if rng.random() < 0.5:
        first, last = last, first
    start, length = float(rng.uniform(0, seconds)), float(rng.uniform(0.5, 1.2))
    quiver = tremor(rng, 0.01)

    def at(t: float) -> tuple[Hand, ...]:
        return _shaken(blend(first, last, minimum_jerk((t - start) / length)), quiver)(t)

    return at


def _nothing(rng: np.random.Generator, stage: Stage, seconds: float) -> HandsAt:
    return lambda t: ()


def _shaken(hand: Hand, quiver: Path) -> HandsAt:
    def at(t: float) -> tuple[Hand, ...]:
        dx, dy = (float(value) for value in quiver(t))
        return (dataclasses.replace(hand, x=hand.x + dx, y=hand.y + dy),)

    return at


_KINDS: dict[str, _Draw] = {
    "rest": _rest,
    "scratch": _scratch,
    "cup": _cup,
    "type": _type,
    "wander": _wander,
    "come_or_go": _come_or_go,
    "nothing": _nothing,
}
