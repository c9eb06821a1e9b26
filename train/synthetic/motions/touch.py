"""Points that a hand reaches for, from the joints of two people in world axes, `[17, 3]` each."""

from __future__ import annotations

import numpy as np

from train.synthetic.motions.body import HEAD, NECK, PELVIS, SHOULDERS, FloatArray

__all__ = ["ahead", "back", "between", "chest", "head"]

_CHEST_DEPTH = 0.09  # metres from the middle of the chest to its surface
_HEAD_DEPTH = 0.08


def chest(
    own: FloatArray, other: FloatArray, u: float, *, height: float, aside: float
) -> FloatArray:
    """Return a point on the front of the other's trunk.

    Args:
        height: 0 is the pelvis, 1 the neck.
        aside: metres to the right of the person who reaches.
    """
    towards, across = _axes(own, other)
    return _trunk(other, height) - _CHEST_DEPTH * towards + aside * across


def back(
    own: FloatArray, other: FloatArray, u: float, *, height: float, aside: float
) -> FloatArray:
    """Return a point on the other's back; the arguments are those of `chest`."""
    towards, across = _axes(own, other)
    return _trunk(other, height) + _CHEST_DEPTH * towards + aside * across


def head(own: FloatArray, other: FloatArray, u: float) -> FloatArray:
    """Return a point on the other's face."""
    towards, _ = _axes(own, other)
    return np.asarray(other[HEAD] - _HEAD_DEPTH * towards)


def between(own: FloatArray, other: FloatArray, u: float, *, height: float) -> FloatArray:
    """Return the point halfway between both people.

    Args:
        height: 0 is the floor, 1 the mean height of their shoulders.
    """
    point = (own[PELVIS] + other[PELVIS]) / 2
    shoulders = (own[SHOULDERS[0], 1] + other[SHOULDERS[0], 1]) / 2
    return np.array([point[0], height * shoulders, point[2]])


def ahead(
    own: FloatArray, other: FloatArray, u: float, *, hand: int, aside: float, rise: float
) -> FloatArray:
    """Return a point three metres away, for a straight arm that points at it.

    Args:
        aside: metres to the right for each metre ahead.
        rise: metres above the shoulder.
    """
    towards, across = _axes(own, other)
    shoulder = own[SHOULDERS[hand]]
    return np.asarray(shoulder + 3.0 * (towards + aside * across) + np.array([0.0, rise, 0.0]))


def _trunk(joints: FloatArray, height: float) -> FloatArray:
    return np.asarray(joints[PELVIS] + height * (joints[NECK] - joints[PELVIS]))


def _axes(own: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the level unit vectors towards the other, or ahead without another; and right."""
    towards = (other[PELVIS] - own[PELVIS]) * np.array([1.0, 0.0, 1.0])
    if np.hypot(towards[0], towards[2]) < 1e-6:
        right = own[SHOULDERS[1]] - own[SHOULDERS[0]]
        towards = np.array([right[2], 0.0, -right[0]])
    towards = towards / np.hypot(towards[0], towards[2])
    return towards, np.array([-towards[2], 0.0, towards[0]])
