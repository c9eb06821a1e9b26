"""Draws how people react to a push, a blow or a kick: changes of the pose over progress `u`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.poses import track

__all__ = ["doubled_over", "jerked", "thrown_back"]

_Pose = Callable[[float], FloatArray]


def thrown_back(rng: np.random.Generator, contact: float, seconds: float, *, force: float) -> _Pose:
    """Draw a person who is pushed: the trunk goes back and the arms fly up, then they recover.

    Args:
        contact: progress at the contact.
        force: about 1; scales the reaction.
    """
    thrown = _jolt(contact, seconds, rise=0.2, fall=float(rng.uniform(0.4, 0.8)))
    arms = rng.uniform(0.3, 1.4, 4)
    most = pose(
        lean=-0.35,
        nod=float(rng.uniform(-0.2, 0.4)),
        hip_left=0.3,
        knee_left=0.5,
        knee_right=0.3,
        shoulder_left=arms[0],
        shoulder_right=arms[1],
        abduction_left=arms[2] * 0.6,
        abduction_right=arms[3] * 0.6,
        elbow_left=0.5,
        elbow_right=0.5,
    )
    return lambda u: most * (force * thrown(u))


def jerked(
    rng: np.random.Generator, contacts: Sequence[float], seconds: float, *, at_head: bool
) -> _Pose:
    """Draw a person who is hit: head and trunk jerk away, and the hands may come up."""
    jolts = [_jolt(c, seconds, rise=0.1, fall=float(rng.uniform(0.3, 0.6))) for c in contacts]
    protects = float(rng.integers(2))
    hands = pose(shoulder_left=0.9, shoulder_right=0.9, elbow_left=1.9, elbow_right=1.9)
    most = pose(
        nod=-0.55 if at_head else 0.3,
        lean=float(rng.uniform(-0.35, -0.15)) if at_head else float(rng.uniform(0.2, 0.4)),
        knee_left=0.3,
        hip_left=0.15,
    )
    covering = track((contacts[0], 0.0), (contacts[0] + 0.3, protects), (1.2, protects), (1.5, 0.0))
    return lambda u: most * sum(jolt(u) for jolt in jolts) + hands * covering(u)


def doubled_over(rng: np.random.Generator, contacts: Sequence[float], seconds: float) -> _Pose:
    """Draw a person who is kicked: the trunk bends forward and the hands go to the belly."""
    jolts = [_jolt(c, seconds, rise=0.15, fall=float(rng.uniform(0.4, 0.9))) for c in contacts]
    most = pose(
        lean=float(rng.uniform(0.25, 0.7)),
        hip_left=0.3,
        hip_right=0.2,
        knee_left=0.5,
        knee_right=0.4,
        shoulder_left=0.7,
        shoulder_right=0.7,
        elbow_left=1.1,
        elbow_right=1.1,
    )
    return lambda u: most * sum(jolt(u) for jolt in jolts)


def _jolt(contact: float, seconds: float, *, rise: float, fall: float) -> Callable[[float], float]:
    """Return a quick rise to 1 from the contact and a slower return; both in seconds."""
    top = contact + rise / seconds
    return track((contact - 0.02, 0.0), (top, 1.0), (top + fall / seconds, 0.0))
