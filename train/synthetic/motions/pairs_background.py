"""Draws two people who do none of the interactions: they talk, pass, walk or stand together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.encounters import Encounter, Plan, stage
from train.synthetic.motions.motion import Figure, Place
from train.synthetic.motions.poses import bump, track

__all__ = ["draw_pair_background"]

# Walks go towards the camera or away from it: walks to a side are actions themselves.
_IN_DEPTH = (1.1, 2.0)


def draw_pair_background(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    """Draw two people around `place` for `seconds`; times are from the start of the video."""
    kinds = [_talk, _talk, _stand_close, _pass, _side_by_side, _one_leaves]
    kind = kinds[int(rng.integers(len(kinds)))]
    encounter = kind(rng, place, seconds)
    return dataclasses.replace(encounter, label="background")


def _talk(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    plan = Plan(
        gap=float(rng.uniform(0.6, 1.3)), poses=(_gestures(rng, seconds), _gestures(rng, seconds))
    )
    return stage("talk", plan, seconds, rng, place, walks=False)


def _stand_close(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    """Stand close, facing each other or the same way, with slow changes of weight."""
    turns = (0.0, 0.0) if rng.random() < 0.4 else tuple(rng.uniform(-2.0, 2.0, 2))
    plan = Plan(
        gap=float(rng.uniform(0.4, 0.8)),
        poses=(_shifting(rng, seconds), _shifting(rng, seconds)),
        turns=(float(turns[0]), float(turns[1])),
    )
    return stage("stand", plan, seconds, rng, place, walks=False)


def _pass(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    """Walk past each other in depth."""
    reach = float(rng.uniform(0.8, 1.5))
    past = track((0.0, reach), (1.0, -reach))
    plan = Plan(gap=0.0, retreats=(past, past), aside=float(rng.uniform(0.25, 0.5)))
    return stage("pass", plan, seconds, rng, place, depth_angle=_IN_DEPTH, walks=False)


def _side_by_side(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    """Walk side by side towards the camera or away from it."""
    length = float(rng.uniform(0.5, 1.0))
    plan = Plan(gap=0.0, retreats=(lambda u: length * (1 - 2 * u), lambda u: 0.0))
    walker = stage("walk", plan, seconds, rng, place, depth_angle=_IN_DEPTH, walks=False)
    gap = float(rng.uniform(0.5, 0.8))
    delay = float(rng.uniform(-0.2, 0.2))

    def at(t: float) -> tuple[Figure, ...]:
        one = walker.at(t)[0]
        two = walker.at(t + delay)[0]
        aside = gap / 2
        return (
            dataclasses.replace(one, x=one.x - aside),
            dataclasses.replace(two, x=two.x + aside),
        )

    return dataclasses.replace(walker, at=at)


def _one_leaves(rng: np.random.Generator, place: Place, seconds: float) -> Encounter:
    """Stand together until one turns away and goes."""
    leaves = float(rng.uniform(0.3, 0.7))
    away = track((leaves, 0.0), (1.1, float(rng.uniform(0.6, 1.4))))
    plan = Plan(
        gap=float(rng.uniform(0.6, 1.1)),
        poses=(_shifting(rng, seconds), _gestures(rng, seconds)),
        retreats=(away, lambda u: 0.0),
        turns=(np.pi, 0.0),
    )
    return stage("leave", plan, seconds, rng, place, depth_angle=_IN_DEPTH, walks=False)


def _gestures(rng: np.random.Generator, seconds: float) -> Callable[[float], FloatArray]:
    """Draw one or two small movements of the arms, nods, and a lean."""
    moves = []
    for _ in range(int(rng.integers(0, 4))):
        side = str(rng.choice(["left", "right"]))
        raised = pose(
            **{
                f"shoulder_{side}": rng.uniform(0.1, 0.7),
                f"elbow_{side}": rng.uniform(0.6, 1.7),
                f"abduction_{side}": rng.uniform(0, 0.4),
            }
        )
        moves.append((raised, float(rng.uniform(0, 1)), float(rng.uniform(0.4, 1.2) / seconds)))
    nod = pose(nod=float(rng.uniform(0, 0.25)))
    rate = float(rng.uniform(0.5, 2.0)) * seconds

    def at(u: float) -> FloatArray:
        angles: FloatArray = nod * np.sin(2 * np.pi * rate * u)
        for raised, middle, width in moves:
            angles = angles + raised * bump(u, middle, width)
        return angles

    return at


def _shifting(rng: np.random.Generator, seconds: float) -> Callable[[float], FloatArray]:
    folded = float(rng.random() < 0.3)
    arms = pose(shoulder_left=0.5, shoulder_right=0.5, elbow_left=1.6, elbow_right=1.6)
    weight = pose(hip_left=0.15, knee_left=0.3, lean=0.05) * rng.uniform(0, 1.5)
    rate = float(rng.uniform(0.1, 0.5)) * seconds

    def at(u: float) -> FloatArray:
        shifted = 0.5 + 0.5 * np.sin(2 * np.pi * rate * u)
        return np.asarray(arms * folded + weight * shifted)

    return at
