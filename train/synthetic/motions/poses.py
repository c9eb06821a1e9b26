"""Key poses and smooth movement between them, for all motions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from train.synthetic.motions.body import FloatArray, pose

__all__ = ["bump", "smooth", "standing", "track"]

_Value = TypeVar("_Value", float, FloatArray)


def smooth(u: float) -> float:
    """Ease progress in and out: slow at 0 and 1, fast in the middle; clamped outside."""
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)


def bump(u: float, middle: float, width: float) -> float:
    """Return a bell from 0 to 1 around `middle`; it is 0 farther away than `width`."""
    return smooth(1.0 - abs(u - middle) / width)


def track(*points: tuple[float, _Value]) -> Callable[[float], _Value]:
    """Return a function of time that moves smoothly through values, and holds the outer ones.

    Args:
        points: pairs of a time and a number or pose, in order of time.
    """

    def at(t: float) -> _Value:
        if t <= points[0][0]:
            return points[0][1]
        for (start, before), (end, after) in itertools.pairwise(points):
            if t < end:
                part = smooth((t - start) / (end - start))
                return before * (1 - part) + after * part
        return points[-1][1]

    return at


def standing(rng: np.random.Generator) -> FloatArray:
    """Draw a relaxed standing pose."""
    return pose(
        lean=rng.uniform(-0.05, 0.1),
        hip_left=rng.uniform(-0.1, 0.1),
        hip_right=rng.uniform(-0.1, 0.1),
        shoulder_left=rng.uniform(-0.15, 0.25),
        shoulder_right=rng.uniform(-0.15, 0.25),
        abduction_left=rng.uniform(0.05, 0.25),
        abduction_right=rng.uniform(0.05, 0.25),
        elbow_left=rng.uniform(0, 0.5),
        elbow_right=rng.uniform(0, 0.5),
    )
