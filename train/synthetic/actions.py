"""The actions: six motions, and each one played backwards.

A motion maps progress `u` in [0, 1] to a `Figure` (pose, place, facing, what the hand holds). The
second member of every pair *is* the first with `u` reversed, and everything else (speed, phase,
facing, clothes, idle movement) is drawn from the same distribution for both. So no single frame
tells the two apart.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from train.synthetic.motion import Motion, Place
from train.synthetic.motions_in_place import fall, pick_up, raise_arm, sit_down
from train.synthetic.walks import enter, walk

__all__ = ["ACTIONS", "BACKGROUND", "LABELS", "PAIRS", "draw_motion", "reverse"]

PAIRS = (
    ("fall", "get_up"),
    ("sit_down", "stand_up"),
    ("walk_right", "walk_left"),
    ("raise_arm", "lower_arm"),
    ("pick_up", "put_down"),
    ("enter", "leave"),
)
ACTIONS = tuple(action for pair in PAIRS for action in pair)
BACKGROUND = "background"
LABELS = (BACKGROUND, *ACTIONS)

_FORWARD: dict[str, Callable[[np.random.Generator, Place], Motion]] = {
    "fall": fall,
    "sit_down": sit_down,
    "raise_arm": raise_arm,
    "pick_up": pick_up,
    "enter": enter,
}


def reverse(motion: Motion) -> Motion:
    """Play the same motion backwards, under the other label of its pair."""
    partner = dict(PAIRS) | {second: first for first, second in PAIRS}
    return dataclasses.replace(motion, label=partner[motion.label], at=lambda u: motion.at(1.0 - u))


def draw_motion(
    label: str, rng: np.random.Generator, place: Place, *, target: tuple[float, float] | None = None
) -> Motion:
    """Draw one performance of `label`.

    Args:
        label: one of `ACTIONS`.
        place: where a forward motion starts and a reversed one ends.
        target: for walks, where the *forward* (rightward) walk ends: (x, z) in metres.
    """
    forward = next(first for first, second in PAIRS if label in (first, second))
    draw = functools.partial(walk, target=target) if forward == "walk_right" else _FORWARD[forward]
    motion = draw(rng, place)
    return motion if label == forward else reverse(motion)
