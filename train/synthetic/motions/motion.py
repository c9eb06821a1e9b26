"""The types that describe a person's movement over time: figures, places and motions.

World axes in metres: `x` to the right, `y` up, `z` away from the camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from train.synthetic.motions.body import FloatArray, pose

__all__ = ["DURATION_SECONDS", "Figure", "Motion", "Place", "Support", "idle_sway"]

# Shortest and longest duration of an action and its reversal; walks depend on distance and speed.
DURATION_SECONDS = {
    "sit_down": (0.9, 1.7),
    "raise_arm": (0.7, 1.4),
    "pick_up": (1.2, 2.0),
    "enter": (1.6, 2.4),
}
_SWAYING_JOINTS = (
    "lean",
    "nod",
    "shoulder_left",
    "shoulder_right",
    "abduction_left",
    "abduction_right",
    "elbow_left",
    "elbow_right",
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """The pose and position of one person at one time, in metres and radians.

    `lift` is the height of the lowest point of the body above the floor, such as on a bed.
    """

    angles: FloatArray
    x: float
    z: float
    yaw: float
    carried: int | None = None  # 0: left hand, 1: right hand, None: empty hands
    lift: float = 0.0


@dataclasses.dataclass(frozen=True)
class Place:
    """Positions in a room, in metres: the person (`x`, `z`), the door and the back wall."""

    x: float
    z: float
    door_x: float
    wall_z: float


@dataclasses.dataclass(frozen=True)
class Support:
    """Furniture that a motion needs: a chair or bed around (x, z), with lengths in metres."""

    kind: Literal["chair", "bed"]
    x: float
    z: float
    width: float = 0.45
    depth: float = 0.45
    height: float = 0.45


@dataclasses.dataclass(frozen=True)
class Motion:
    """An action with its length in seconds; `at(u)` is the figure at progress u, from 0 to 1.

    `object_spot` is the position (x, z) on the floor of an object while nobody carries it. For
    `lead_seconds` before the action and `trail_seconds` after it the person also moves, such as in
    a walk that ends in a fall; `at` then takes progress below 0 or above 1.
    """

    label: str
    seconds: float
    at: Callable[[float], Figure]
    object_spot: tuple[float, float] | None = None
    support: Support | None = None
    lead_seconds: float = 0.0
    trail_seconds: float = 0.0

    def at_time(self, t: float) -> Figure:
        """Return the figure t seconds after the action's start; it stays before and after."""
        t = float(np.clip(t, -self.lead_seconds, self.seconds + self.trail_seconds))
        return self.at(t / self.seconds)

    def moved(self, dx: float, dz: float) -> Motion:
        """Return the motion at a position that is (dx, dz) metres away; its object stays."""
        support = self.support
        if support is not None:
            support = dataclasses.replace(support, x=support.x + dx, z=support.z + dz)

        def at(u: float) -> Figure:
            figure = self.at(u)
            return dataclasses.replace(figure, x=figure.x + dx, z=figure.z + dz)

        return dataclasses.replace(self, at=at, support=support)


def idle_sway(rng: np.random.Generator, strength: float) -> Callable[[float], FloatArray]:
    """Draw small periodic joint movement: joint angles as a function of time in seconds.

    Args:
        strength: largest angle in radians.
    """
    moving = sum(pose(**{joint: 1.0}) for joint in _SWAYING_JOINTS)
    weight = moving * rng.uniform(0.1, 1.0, 14) * strength
    phase = rng.uniform(0, 2 * np.pi, 14)
    rate = rng.uniform(0.15, 0.7, 14)

    def sway(seconds: float) -> FloatArray:
        angles: FloatArray = weight * np.sin(phase + 2 * np.pi * rate * seconds)
        return angles

    return sway
