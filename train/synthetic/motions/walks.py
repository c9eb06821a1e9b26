"""Draws motions from one position to another: walking and entering."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.motion import DURATION_SECONDS, Figure, Motion, Place
from train.synthetic.motions.poses import bump

__all__ = ["enter", "forward_gait", "gait", "walk"]

_WALK_SPEED = (0.6, 1.2)  # metres per second


def enter(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a person who comes from behind the wall through the door and walks to `place`."""
    seconds = float(rng.uniform(*DURATION_SECONDS["enter"]))
    hidden_x = place.door_x + float(rng.choice([-1.0, 1.0])) * rng.uniform(0.75, 0.95)
    back_z = place.wall_z + 0.35
    turning_point = rng.uniform(0.3, 0.42)
    moves = gait(rng)
    yaw = float(rng.choice([0.0, np.pi]) + rng.normal(0, 0.25))

    def at(u: float) -> Figure:
        if u < turning_point:
            part = u / turning_point
            x = hidden_x + (place.door_x - hidden_x) * part
            z = back_z
        else:
            part = (u - turning_point) / (1 - turning_point)
            x = place.door_x + (place.x - place.door_x) * part
            z = back_z + (place.z - back_z) * part
        return Figure(moves(u * seconds, _fade(u)), float(x), float(z), yaw)

    return Motion("enter", seconds, at)


def walk(rng: np.random.Generator, place: Place, target: tuple[float, float] | None) -> Motion:
    """Draw a walk to the right; half of the people face left, so they walk backwards."""
    if target is None:
        target = (place.x + float(rng.uniform(1.0, 2.6)), place.z + float(rng.normal(0, 0.15)))
    end_x, end_z = target
    metres = np.hypot(end_x - place.x, end_z - place.z)
    seconds = max(float(metres / rng.uniform(*_WALK_SPEED)), 0.9)
    moves = gait(rng)
    yaw = float(rng.choice([-1.0, 1.0]) * (np.pi / 2 + rng.normal(0, 0.25)))

    def at(u: float) -> Figure:
        x = place.x + (end_x - place.x) * u
        z = place.z + (end_z - place.z) * u
        return Figure(moves(u * seconds, _fade(u)), x, z, yaw)

    return Motion("walk_right", seconds, at)


def gait(rng: np.random.Generator) -> Callable[[float, float], FloatArray]:
    """Draw a way of walking that looks the same forwards and backwards in time.

    The returned function gives the pose at a time in seconds. Its second argument, from 0 to 1,
    blends between standing (0) and walking (1).
    """
    phase = rng.uniform(0, 2 * np.pi)
    rate = rng.uniform(0.8, 1.15)
    swing = rng.uniform(0.35, 0.55)
    lift = rng.uniform(0.3, 0.7)
    arms = rng.uniform(0.2, 0.5)
    lean = rng.uniform(0, 0.1)

    def at(seconds: float, amount: float) -> FloatArray:
        angle = phase + 2 * np.pi * rate * seconds
        sine = np.sin(angle)
        cosine = np.cos(angle)
        knee = lift * cosine * cosine
        return pose(
            lean=lean,
            hip_left=amount * swing * sine,
            hip_right=-amount * swing * sine,
            knee_left=amount * (knee if sine > 0 else 0.25 * knee),
            knee_right=amount * (knee if sine <= 0 else 0.25 * knee),
            shoulder_left=-amount * arms * sine,
            shoulder_right=amount * arms * sine,
            elbow_left=0.25,
            elbow_right=0.25,
            abduction_left=0.08,
            abduction_right=0.08,
        )

    return at


def forward_gait(rng: np.random.Generator) -> Callable[[float, float], FloatArray]:
    """Draw a natural way of walking: the knee bends while the leg swings forward.

    The returned function gives the pose after a number of strides (two steps each), from the way
    walked, so that the feet do not slide. Its second argument is as for `gait`.
    """
    phase = rng.uniform(0, 1)
    swing = rng.uniform(0.32, 0.48)
    knee = rng.uniform(0.8, 1.15)
    arms = rng.uniform(0.25, 0.6)
    elbow = rng.uniform(0.15, 0.5)
    lean = rng.uniform(0, 0.12)

    def leg(part: float) -> tuple[float, float]:
        # The heel touches the floor at 0; the leg swings forward from 0.6 to 1.
        hip = np.cos(2 * np.pi * part) + 0.25 * np.sin(4 * np.pi * part)
        bend = 0.22 * bump(part, 0.14, 0.14) + knee * bump(part, 0.74, 0.22)
        return float(swing * hip), float(bend)

    def at(strides: float, amount: float) -> FloatArray:
        left, right = ((phase + strides + shift) % 1.0 for shift in (0.0, 0.5))
        (hip_left, knee_left), (hip_right, knee_right) = leg(left), leg(right)
        arm = arms * np.cos(2 * np.pi * left)
        return pose(
            lean=lean * amount,
            hip_left=amount * hip_left,
            hip_right=amount * hip_right,
            knee_left=amount * knee_left,
            knee_right=amount * knee_right,
            shoulder_left=-amount * arm,
            shoulder_right=amount * arm,
            elbow_left=elbow + 0.2 * amount * max(0.0, -arm),
            elbow_right=elbow + 0.2 * amount * max(0.0, arm),
            abduction_left=0.1,
            abduction_right=0.1,
        )

    return at


def _fade(u: float) -> float:
    """Return the strength of the gait: 0 at both ends, where people stand, and 1 between."""
    return float(np.clip(min(u, 1 - u) / 0.12, 0.0, 1.0))
