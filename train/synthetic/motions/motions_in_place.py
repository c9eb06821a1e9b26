"""Draws motions at one position: sitting down, raising an arm and picking up."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.motion import DURATION_SECONDS, Figure, Motion, Place
from train.synthetic.motions.poses import smooth, standing

__all__ = ["pick_up", "raise_arm", "seated", "sit_down"]


def sit_down(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a motion in which a person bends and sits down."""
    stand = standing(rng)
    bend = stand + pose(
        lean=rng.uniform(0.4, 0.8), hip_left=0.8, hip_right=0.8, knee_left=0.9, knee_right=0.9
    )
    sitting = seated(rng)
    yaw = rng.choice([-1.2, -0.7, 0.0, 0.7, 1.2]) + rng.normal(0, 0.15)
    return _in_place("sit_down", rng, place, float(yaw), [stand, bend, sitting])


def seated(rng: np.random.Generator) -> FloatArray:
    """Draw a pose of sitting on a chair."""
    return pose(
        lean=rng.uniform(-0.15, 0.15),
        hip_left=1.5,
        hip_right=1.5,
        knee_left=1.5,
        knee_right=rng.uniform(1.3, 1.6),
        shoulder_left=rng.uniform(0.2, 0.8),
        shoulder_right=rng.uniform(0.2, 0.8),
        elbow_left=0.4,
        elbow_right=0.5,
    )


def raise_arm(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a motion in which a person raises one arm, forwards or sideways."""
    stand = standing(rng)
    side = str(rng.choice(["left", "right"]))
    sideways = rng.random() < 0.5
    joint, other = ("abduction", "shoulder") if sideways else ("shoulder", "abduction")
    full = rng.uniform(1.9, 2.9)
    elbow = rng.uniform(0.0, 0.4)
    up = stand + pose(
        **{f"{joint}_{side}": full, f"{other}_{side}": rng.uniform(0, 0.2), f"elbow_{side}": elbow}
    )
    half = stand + pose(**{f"{joint}_{side}": full * 0.5, f"elbow_{side}": rng.uniform(0, 0.5)})
    yaw = rng.uniform(-0.9, 0.9) + (np.pi if rng.random() < 0.4 else 0.0)
    return _in_place("raise_arm", rng, place, float(yaw), [stand, half, up])


def pick_up(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a motion in which a person bends, takes an object from the floor and stands up."""
    stand = standing(rng)
    hand = int(rng.integers(2))
    side = ("left", "right")[hand]
    squat = rng.uniform(0.2, 1.0)
    down = stand + pose(
        lean=1.75 - 0.55 * squat,
        nod=0.2,
        hip_left=1.5 * squat,
        hip_right=1.4 * squat,
        knee_left=2.0 * squat,
        knee_right=1.9 * squat,
        **{f"shoulder_{side}": rng.uniform(1.2, 1.6), f"elbow_{side}": 0.1},
    )
    holding = stand + pose(
        **{f"shoulder_{side}": rng.uniform(0.2, 0.7), f"elbow_{side}": rng.uniform(0.5, 1.3)}
    )
    yaw = float(rng.choice([-1.3, 1.3, 0.5, -0.5]) + rng.normal(0, 0.2))
    base = _in_place("pick_up", rng, place, yaw, [stand, down, holding])
    reach = 0.45
    spot = (float(place.x + reach * np.sin(yaw)), float(place.z - reach * np.cos(yaw)))

    def at(u: float) -> Figure:
        figure = base.at(u)
        return dataclasses.replace(figure, carried=hand) if u > 0.5 else figure

    return Motion("pick_up", base.seconds, at, object_spot=spot)


def _in_place(
    label: str,
    rng: np.random.Generator,
    place: Place,
    yaw: float,
    keys: list[FloatArray],
) -> Motion:
    """Return a motion through key poses at one position."""
    seconds = float(rng.uniform(*DURATION_SECONDS[label]))

    def at(u: float) -> Figure:
        clamped = float(np.clip(u, 0.0, 1.0))
        eased = smooth(clamped) * (len(keys) - 1)
        index = min(int(eased), len(keys) - 2)
        part = smooth(eased - index) if len(keys) > 2 else eased - index
        return Figure(keys[index] * (1 - part) + keys[index + 1] * part, place.x, place.z, yaw)

    return Motion(label, seconds, at)
