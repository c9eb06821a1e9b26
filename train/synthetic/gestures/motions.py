"""What the hands do in each gesture.

A gesture maps progress `u` in [0, 1] to the poses of one hand or two. The second gesture of a
pair, such as `swipe_right`, is the first one with `u` reversed; all else is drawn alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from train.synthetic.gestures import paths
from train.synthetic.gestures.hands import Hand, blend
from train.synthetic.gestures.labels import REVERSALS

__all__ = ["POINTING", "SHAPES", "Act", "Stage", "draw_act", "hand_shape"]

HandsAt: TypeAlias = Callable[[float], tuple[Hand, ...]]
Curls: TypeAlias = tuple[float, float, float, float, float]

SHAPES: dict[str, Curls] = {
    "open": (0.0, 0.03, 0.03, 0.04, 0.06),
    "flat": (0.45, 0.05, 0.04, 0.05, 0.06),
    "relaxed": (0.3, 0.3, 0.38, 0.42, 0.45),
    "fist": (0.95, 1.0, 1.0, 1.0, 1.0),
    "point": (0.8, 0.02, 0.95, 1.0, 1.0),
    "two": (0.9, 0.02, 0.03, 0.95, 1.0),
    "thumb": (0.0, 1.0, 1.0, 1.0, 1.0),
    "pinch": (0.55, 0.5, 0.85, 0.95, 1.0),
    "apart": (0.0, 0.05, 0.85, 0.95, 1.0),
}
# Gestures that a pointer, pen or ball can make in place of a hand.
POINTING = (
    *("swipe_left", "swipe_right", "swipe_up", "swipe_down"),
    *("circle_clockwise", "circle_counterclockwise"),
    *("draw_triangle", "draw_square", "draw_cross", "draw_line_and_back"),
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where a hand acts: its usual pose, and how far it moves, in units of the frame's height.

    `side` is 1 for a hand with the palm's thumb at the right of the frame, -1 for the other.
    """

    home: Hand
    reach: float
    side: float


@dataclasses.dataclass(frozen=True)
class Act:
    """A gesture with its length in seconds; `at(u)` gives the hands at progress u."""

    label: str
    seconds: float
    at: HandsAt


def draw_act(label: str, rng: np.random.Generator, stage: Stage) -> Act:
    """Draw a random performance of the gesture `label`."""
    backward = label not in _FORWARD
    name = REVERSALS[label] if backward else label
    shortest, longest, draw = _FORWARD[name]
    seconds = float(rng.uniform(shortest, longest))
    at = draw(rng, stage)
    return Act(label, seconds, (lambda u: at(1.0 - u)) if backward else at)


def hand_shape(rng: np.random.Generator, home: Hand, *names: str) -> Hand:
    """Return `home` with the fingers in one of these shapes, with small random changes."""
    curls = np.array(SHAPES[str(rng.choice(names))]) + rng.normal(0, 0.035, 5)
    thumb, index, middle, ring, little = (float(curl) for curl in np.clip(curls, -0.1, 1.05))
    spread = float(rng.uniform(0.3, 1.5))
    return dataclasses.replace(home, curls=(thumb, index, middle, ring, little), spread=spread)


def _along(path: paths.Path, hand: Hand, stage: Stage, sweep: float = 0.0) -> HandsAt:
    """Move the hand along the path; `sweep` turns it around the elbow as it goes aside."""

    def at(u: float) -> tuple[Hand, ...]:
        dx, dy = (float(value) for value in path(u) * stage.reach)
        roll = hand.roll - sweep * dx
        return (dataclasses.replace(hand, x=hand.x + dx, y=hand.y + dy, roll=roll),)

    return at


def _swipe(rng: np.random.Generator, stage: Stage, step: tuple[float, float]) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "flat", "flat", "point", "two", "relaxed")
    edge = float(rng.choice([0.0, 0.0, 1.0, -1.0]) * rng.uniform(0.4, 1.2))
    hand = dataclasses.replace(hand, yaw=hand.yaw + edge)
    size = float(rng.uniform(0.9, 1.6))
    end = np.array(step) * size
    line = paths.tilted(rng, paths.polyline([list(-end), list(end)]), 20.0)
    bow = float(rng.uniform(-0.25, 0.25))
    across = np.array([-step[1], step[0]], float)
    path = _bowed(line, across * bow)
    return _along(path, hand, stage, sweep=float(rng.uniform(0, 1.2)) * abs(step[0]))


def _bowed(line: paths.Path, bow: np.ndarray[tuple[int], np.dtype[np.float64]]) -> paths.Path:
    return lambda u: line(u) + bow * 4 * paths.minimum_jerk(u) * (1 - paths.minimum_jerk(u))


def _swipe_left(rng: np.random.Generator, stage: Stage) -> HandsAt:
    return _swipe(rng, stage, (-1.0, 0.0))


def _swipe_up(rng: np.random.Generator, stage: Stage) -> HandsAt:
    return _swipe(rng, stage, (0.0, -0.8))


def _between(start: Hand, end: Hand) -> HandsAt:
    return lambda u: (blend(start, end, paths.minimum_jerk(u)),)


def _push(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "open", "flat", "fist", "two")
    factor = float(rng.uniform(1.3, 1.7))
    tip = float(rng.uniform(0.0, 0.5))
    shift = rng.normal(0, 0.04, 2)
    far = dataclasses.replace(hand, scale=hand.scale / factor, pitch=hand.pitch + tip)
    near = dataclasses.replace(
        hand, scale=hand.scale * factor, x=hand.x + float(shift[0]), y=hand.y + float(shift[1])
    )
    return _between(far, near)


def _zoom(rng: np.random.Generator, stage: Stage) -> HandsAt:
    if rng.random() < 0.45:
        return _zoom_with_two_hands(rng, stage)
    together = hand_shape(rng, stage.home, "pinch")
    apart = hand_shape(rng, stage.home, "apart")
    if rng.random() < 0.25:  # with three fingers
        together = dataclasses.replace(together, curls=(0.55, 0.5, 0.5, 0.95, 1.0))
        apart = dataclasses.replace(apart, curls=(0.0, 0.05, 0.05, 0.95, 1.0))
    turn = float(rng.uniform(0.2, 0.9)) * stage.side
    spread = float(rng.uniform(1.2, 1.6))
    together = dataclasses.replace(together, roll=together.roll + turn, spread=spread)
    return _between(together, dataclasses.replace(apart, roll=apart.roll + turn, spread=spread))


def _zoom_with_two_hands(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "flat", "open", "point", "relaxed")
    gaps = (float(rng.uniform(0.05, 0.14)), float(rng.uniform(0.3, 0.5)))
    slope = float(rng.uniform(-0.5, 0.5))

    def at(u: float) -> tuple[Hand, ...]:
        gap = gaps[0] + (gaps[1] - gaps[0]) * paths.minimum_jerk(u)
        first = dataclasses.replace(hand, x=-stage.side * gap, y=hand.y + slope * gap)
        second = dataclasses.replace(
            hand, x=stage.side * gap, y=hand.y - slope * gap, roll=-hand.roll
        )
        return (first, second)

    return at


def _open(rng: np.random.Generator, stage: Stage) -> HandsAt:
    start = hand_shape(rng, stage.home, "fist")
    end = hand_shape(rng, stage.home, "open")
    return _between(start, dataclasses.replace(end, spread=float(rng.uniform(0.9, 1.6))))


def _turn_clockwise(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "flat", "point", "two", "thumb")
    angle = float(rng.uniform(0.9, 1.7))
    middle = hand.roll * 0.5 + float(rng.normal(0, 0.15))
    start = dataclasses.replace(hand, roll=middle + angle / 2)
    end = dataclasses.replace(hand, roll=middle - angle / 2)
    return _between(start, end)


def _shake(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "open", "flat", "point", "relaxed")
    size = float(rng.uniform(0.25, 0.7))
    swing = paths.swinging(rng)
    path = paths.tilted(rng, lambda u: swing(u) * size, 15.0)
    return _along(path, hand, stage, sweep=float(rng.uniform(1.5, 5.0)))


def _drum(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "relaxed")
    beats = float(rng.integers(3, 6))
    depth = float(rng.uniform(0.45, 0.75))
    order = float(rng.choice([-1, 1]))
    base = np.array(hand.curls) * 0.3
    offsets = order * np.array([0.0, 0.0, 0.25, 0.5, 0.75])

    def at(u: float) -> tuple[Hand, ...]:
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * (beats * u - offsets))
        strength = depth * min(1.0, 8 * u, 8 * (1 - u))
        curls = base + strength * wave**2 * np.array([0.25, 1, 1, 1, 1])
        thumb, index, middle, ring, little = (float(curl) for curl in curls)
        return (dataclasses.replace(hand, curls=(thumb, index, middle, ring, little)),)

    return at


def _held(rng: np.random.Generator, stage: Stage, hand: Hand) -> HandsAt:
    """Raise the hand a little, hold it, and move it slightly."""
    low = dataclasses.replace(hand, y=hand.y + float(rng.uniform(0.03, 0.15)))
    shift = rng.normal(0, 0.02, 2)
    late = dataclasses.replace(hand, x=hand.x + float(shift[0]), y=hand.y + float(shift[1]))
    arrives = float(rng.uniform(0.15, 0.3))

    def at(u: float) -> tuple[Hand, ...]:
        if u < arrives:
            return (blend(low, hand, paths.minimum_jerk(u / arrives)),)
        return (blend(hand, late, paths.minimum_jerk((u - arrives) / (1 - arrives))),)

    return at


def _thumb(rng: np.random.Generator, stage: Stage, up: float) -> HandsAt:
    hand = hand_shape(rng, stage.home, "thumb")
    # The back shows when the thumb is up, and the palm when it is down, if the arm is at ease.
    at_ease = rng.random() < 0.85
    yaw = (np.pi if at_ease == (up > 0) else 0.0) + float(rng.uniform(-0.35, 0.35))
    # The thumb lies across the fingers: turn it to the top or the bottom of the frame.
    thumb_side = stage.side * (1.0 if np.cos(yaw) > 0 else -1.0)
    lean = float(rng.uniform(0.65, 1.15) if up > 0 else -rng.uniform(1.9, 2.5))
    roll = thumb_side * lean
    hand = dataclasses.replace(hand, yaw=yaw, roll=roll, spread=float(rng.uniform(0.4, 1.2)))
    return _held(rng, stage, hand)


def _thumb_up(rng: np.random.Generator, stage: Stage) -> HandsAt:
    return _thumb(rng, stage, 1.0)


def _thumb_down(rng: np.random.Generator, stage: Stage) -> HandsAt:
    return _thumb(rng, stage, -1.0)


def _stop(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "open", "flat")
    return _held(rng, stage, dataclasses.replace(hand, roll=hand.roll * 0.5, pitch=0.0))


def _point(rng: np.random.Generator, stage: Stage) -> HandsAt:
    hand = hand_shape(rng, stage.home, "point")
    return _held(rng, stage, dataclasses.replace(hand, roll=hand.roll * 0.4))


def _drawn(path: Callable[[np.random.Generator], paths.Path]) -> _Draw:
    """Return a gesture that follows the path with one or two fingers, or the whole hand."""

    def draw(rng: np.random.Generator, stage: Stage) -> HandsAt:
        hand = hand_shape(rng, stage.home, "point", "point", "point", "two", "flat", "fist")
        return _along(paths.tilted(rng, path(rng)), hand, stage, sweep=float(rng.uniform(0, 1.0)))

    return draw


def _triangle(rng: np.random.Generator) -> paths.Path:
    return paths.polygon(rng, [(0.0, -0.95), (1.0, 0.75), (-1.0, 0.75)])


def _square(rng: np.random.Generator) -> paths.Path:
    return paths.polygon(rng, [(-0.9, -0.85), (0.9, -0.85), (0.9, 0.85), (-0.9, 0.85)])


def _line(rng: np.random.Generator) -> paths.Path:
    path = paths.line_and_back(rng)
    if rng.random() < 0.3:
        return lambda u: path(u)[::-1]
    return path


_Draw: TypeAlias = Callable[[np.random.Generator, Stage], HandsAt]
# Shortest and longest length in seconds, and the function that draws the gesture.
_FORWARD: dict[str, tuple[float, float, _Draw]] = {
    "swipe_left": (0.45, 1.1, _swipe_left),
    "swipe_up": (0.45, 1.1, _swipe_up),
    "push_hand": (0.5, 1.2, _push),
    "circle_clockwise": (0.9, 2.0, _drawn(paths.circle)),
    "turn_hand_clockwise": (0.5, 1.2, _turn_clockwise),
    "zoom_in": (0.5, 1.3, _zoom),
    "open_hand": (0.4, 1.0, _open),
    "shake_hand": (1.1, 2.1, _shake),
    "drum_fingers": (1.1, 2.1, _drum),
    "thumb_up": (0.9, 1.8, _thumb_up),
    "thumb_down": (0.9, 1.8, _thumb_down),
    "stop_sign": (0.9, 1.8, _stop),
    "point_up": (0.9, 1.8, _point),
    "draw_triangle": (1.2, 2.1, _drawn(_triangle)),
    "draw_square": (1.3, 2.2, _drawn(_square)),
    "draw_cross": (1.0, 1.9, _drawn(paths.cross)),
    "draw_line_and_back": (0.9, 1.9, _drawn(_line)),
}
