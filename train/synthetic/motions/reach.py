"""Moves a hand to a point by solving the angles of the arm (inverse kinematics)."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import (
    JOINT_ANGLES,
    PELVIS,
    SHOULDERS,
    Body,
    FloatArray,
    joint_positions,
    world_positions,
)
from train.synthetic.motions.motion import Figure

__all__ = ["over_pelvis", "reach", "world_joints"]

# Lengths as fractions of the body's height, as in `joint_positions`.
_UPPER_ARM = 0.165
_FOREARM = 0.18
_REACH = _UPPER_ARM + _FOREARM
_MAX_ACROSS = 0.8  # radians by which an arm can cross the chest
_MAX_ASIDE = 1.5
_LEAN = JOINT_ANGLES.index("lean")
_ARMS = tuple(
    tuple(JOINT_ANGLES.index(f"{joint}_{side}") for joint in ("shoulder", "abduction", "elbow"))
    for side in ("left", "right")
)


def world_joints(figure: Figure, body: Body) -> FloatArray:
    """Return the joint positions `[17, 3]` in world axes, in metres."""
    joints = joint_positions(figure.angles, body)
    return world_positions(joints, figure.x, figure.z, figure.yaw, lift=figure.lift)


def over_pelvis(figure: Figure, body: Body) -> Figure:
    """Move a figure so that its pelvis, and not the middle of its feet, is at its (x, z)."""
    pelvis = world_joints(figure, body)[PELVIS]
    return dataclasses.replace(
        figure, x=2 * figure.x - float(pelvis[0]), z=2 * figure.z - float(pelvis[2])
    )


def reach(
    figure: Figure, body: Body, hand: int, target: FloatArray, *, amount: float = 1.0
) -> Figure:
    """Turn an arm of an upright figure so that its hand is at `target`, or as near as possible.

    Args:
        hand: 0 for the left hand, 1 for the right.
        target: point `[3]` in world axes, in metres.
        amount: 0 keeps the arm as it is, 1 moves the hand to the target.
    """
    if amount <= 0.0:
        return figure
    shoulder = world_joints(figure, body)[SHOULDERS[hand]]
    offset = (target - shoulder) / body.height_metres
    # A point that is too far gives the direction of a straight arm.
    offset = offset * min(1.0, _REACH / max(float(np.linalg.norm(offset)), 1e-9))
    sine, cosine = np.sin(figure.yaw), np.cos(figure.yaw)
    outward = (-offset[0] * cosine - offset[2] * sine) * (1.0 if hand == 0 else -1.0)
    forward = offset[0] * sine - offset[2] * cosine
    solved = _arm_angles(outward, float(offset[1]), forward, float(figure.angles[_LEAN]))
    angles = figure.angles.copy()
    for index, value in zip(_ARMS[hand], solved, strict=True):
        angles[index] += amount * (value - angles[index])
    return dataclasses.replace(figure, angles=angles)


def _arm_angles(outward: float, up: float, forward: float, lean: float) -> FloatArray:
    """Return shoulder, abduction and elbow for a hand at this offset from the shoulder.

    Upper arm and forearm have the same abduction, so that it follows from the offset to the side;
    the other two angles are those of a triangle in the plane of the arm.
    """
    part = np.clip(outward / _REACH, -1.0, 1.0)
    abduction = float(np.clip(np.arcsin(part), -_MAX_ACROSS, _MAX_ASIDE))
    upper = _UPPER_ARM * np.cos(abduction)
    lower = _FOREARM * np.cos(abduction)
    distance = np.clip(np.hypot(up, forward), abs(upper - lower) + 1e-4, upper + lower - 1e-4)
    inside = (upper**2 + lower**2 - distance**2) / (2 * upper * lower)
    elbow = np.pi - np.arccos(np.clip(inside, -1.0, 1.0))
    behind = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    raised = np.arctan2(forward, -up) - np.arccos(np.clip(behind, -1.0, 1.0))
    return np.array([raised + lean, abduction, elbow])
