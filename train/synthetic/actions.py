"""The twelve actions: six motions, and the same six motions played backwards; and interactions.

A motion maps progress `u` in [0, 1] to a `Figure` (pose, position, direction, carried object). In
every pair, the second action is the first one with `u` reversed. Everything else (speed, phase,
direction, clothes, idle movement) is drawn from the same distribution for both. A single frame
therefore cannot show which action of a pair it belongs to.

Interactions are actions of two people (`interactions.py`); they are not in pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.motions.falls import fall
from train.synthetic.motions.motion import Motion, Place
from train.synthetic.motions.motions_in_place import pick_up, raise_arm, sit_down
from train.synthetic.motions.walks import enter, walk

__all__ = [
    "ACTIONS",
    "ALL_LABELS",
    "BACKGROUND",
    "INTERACTIONS",
    "LABELS",
    "PAIRS",
    "draw_motion",
    "reverse",
]

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
INTERACTIONS = ("push", "hit", "kick", "hug", "shake_hands", "hand_over", "point")
ALL_LABELS = (*LABELS, *INTERACTIONS)

_FORWARD: dict[str, Callable[[np.random.Generator, Place], Motion]] = {
    "sit_down": sit_down,
    "raise_arm": raise_arm,
    "pick_up": pick_up,
    "enter": enter,
}


def reverse(motion: Motion) -> Motion:
    """Return the motion played backwards, with the other label of its pair."""
    partner = dict(PAIRS) | {second: first for first, second in PAIRS}
    return dataclasses.replace(
        motion,
        label=partner[motion.label],
        at=lambda u: motion.at(1.0 - u),
        lead_seconds=motion.trail_seconds,
        trail_seconds=motion.lead_seconds,
    )


def draw_motion(
    label: str,
    rng: np.random.Generator,
    place: Place,
    *,
    target: tuple[float, float] | None = None,
    furniture: bool = False,
) -> Motion:
    """Draw a random motion with the label `label`.

    Args:
        label: one of `ACTIONS`.
        place: position where a forward motion starts and a reversed motion ends.
        target: for walks, position (x, z) in metres where the forward (rightward) walk ends.
        furniture: for falls, also draw those from a chair or bed, which the room must then have.
    """
    forward = next(first for first, second in PAIRS if label in (first, second))
    if forward == "walk_right":
        motion = walk(rng, place, target=target)
    elif forward == "fall":
        motion = fall(rng, place, furniture=furniture)
    else:
        motion = _FORWARD[forward](rng, place)
    return motion if label == forward else reverse(motion)
