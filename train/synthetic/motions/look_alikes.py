"""Draws movements that look like an action and are none: they belong to the background."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.motion import Figure, Motion, Place, Support
from train.synthetic.motions.motions_in_place import seated
from train.synthetic.motions.poses import standing, track

__all__ = ["IN_PLACE", "LOOK_ALIKES", "draw_look_alike"]

_LABEL = "background"
_Keys = tuple[tuple[float, FloatArray], ...]


def draw_look_alike(
    kind: str, rng: np.random.Generator, place: Place, *, start: Figure | None = None
) -> Motion:
    """Draw a movement of a kind, one of `LOOK_ALIKES`.

    Args:
        start: for kinds of `IN_PLACE`, a standing figure where the movement starts and ends.
    """
    if start is None:
        start = Figure(standing(rng), place.x, place.z, float(rng.uniform(-np.pi, np.pi)))
    return _KINDS[kind](rng, start)


def _squat(rng: np.random.Generator, start: Figure) -> Motion:
    depth = float(rng.uniform(0.7, 1.1))
    down = start.angles + pose(
        lean=rng.uniform(0.3, 0.7),
        hip_left=1.8 * depth,
        hip_right=1.8 * depth,
        knee_left=2.2 * depth,
        knee_right=2.2 * depth,
        shoulder_left=rng.uniform(0.3, 1.6),
        shoulder_right=rng.uniform(0.3, 1.6),
    )
    return _down_and_up(rng, start, down, float(rng.uniform(1.8, 4.0)))


def _kneel(rng: np.random.Generator, start: Figure) -> Motion:
    down = start.angles + _KNEELING + pose(lean=rng.uniform(0, 0.4))
    return _down_and_up(rng, start, down, float(rng.uniform(2.5, 5.0)))


def _tie_shoes(rng: np.random.Generator, start: Figure) -> Motion:
    arms = pose(shoulder_left=1.1, shoulder_right=1.1, elbow_left=0.5, elbow_right=0.5)
    kneels = rng.random() < 0.5
    bent = pose(lean=0.9, nod=0.3) + _KNEELING if kneels else pose(lean=1.7, nod=0.4)
    bent = bent if kneels else bent + pose(hip_left=0.5, hip_right=0.5, knee_left=0.8)
    bent = bent if kneels else bent + pose(knee_right=0.8)
    motion = _down_and_up(rng, start, start.angles + bent + arms, float(rng.uniform(2.5, 5.0)))
    fingers = pose(elbow_left=0.2, elbow_right=-0.2, shoulder_left=-0.1, shoulder_right=0.1)

    def at(u: float) -> Figure:
        figure = motion.at(u)
        tying = np.sin(9 * np.pi * u) * (0.25 < u < 0.75)
        return dataclasses.replace(figure, angles=figure.angles + fingers * tying)

    return dataclasses.replace(motion, at=at)


def _stretch(rng: np.random.Generator, start: Figure) -> Motion:
    joint = "abduction" if rng.random() < 0.5 else "shoulder"
    up = pose(lean=-0.15, nod=-0.3, **{f"{joint}_left": 2.6, f"{joint}_right": 2.7})
    return _down_and_up(rng, start, start.angles + up, float(rng.uniform(2.0, 4.0)))


def _lean_on(rng: np.random.Generator, start: Figure) -> Motion:
    side = float(rng.choice([-1, 1]))
    name = "left" if side < 0 else "right"
    leaning = pose(
        roll=-side * rng.uniform(0.1, 0.2),
        **{f"abduction_{name}": rng.uniform(0.7, 1.5), f"knee_{name}": 0.4, f"hip_{name}": 0.2},
    )
    if rng.random() < 0.4:
        leaning = pose(pitch=0.25, shoulder_left=1.3, shoulder_right=1.3, nod=0.3)
    return _down_and_up(rng, start, start.angles + leaning, float(rng.uniform(2.0, 5.0)))


def _jumping_jacks(rng: np.random.Generator, start: Figure) -> Motion:
    count = int(rng.integers(2, 6))
    arms = pose(abduction_left=2.6, abduction_right=2.6)
    high = float(rng.uniform(0.05, 0.15))

    def at(u: float) -> Figure:
        swung = 0.5 - 0.5 * np.cos(2 * np.pi * count * u)
        lift = high * abs(np.sin(2 * np.pi * count * u))
        return dataclasses.replace(start, angles=start.angles + arms * swung, lift=float(lift))

    return Motion(_LABEL, count * float(rng.uniform(0.7, 1.1)), at)


def _drop_object(rng: np.random.Generator, start: Figure) -> Motion:
    hand = int(rng.integers(2))
    side = ("left", "right")[hand]
    held = start.angles + pose(**{f"elbow_{side}": 1.2, f"shoulder_{side}": 0.4})
    startled = held + pose(lean=0.2, nod=0.5, **{f"elbow_{side}": -0.5})
    angles = track((0.4, held), (0.6, startled), (1.0, startled))
    spot = (start.x + 0.4 * np.sin(start.yaw), start.z - 0.4 * np.cos(start.yaw))

    def at(u: float) -> Figure:
        return dataclasses.replace(start, angles=angles(u), carried=hand if u < 0.45 else None)

    return Motion(_LABEL, float(rng.uniform(1.0, 2.5)), at, (float(spot[0]), float(spot[1])))


def _sit_on_floor(rng: np.random.Generator, start: Figure) -> Motion:
    squat = start.angles + pose(
        lean=0.6, hip_left=1.7, hip_right=1.7, knee_left=2.2, knee_right=2.2, shoulder_left=0.6
    )
    keys = ((0.0, start.angles), (0.5, squat), (1.0, _sitting_on_floor(rng)))
    return _through(rng.uniform(1.8, 3.5), start, keys)


def _lie_down_on_floor(rng: np.random.Generator, start: Figure) -> Motion:
    """Kneel, sit and then lie down, one after another and slowly."""
    lying = pose(pitch=-1.5, hip_left=0.5, hip_right=0.3, knee_left=1.0, knee_right=0.6)
    propped = _sitting_on_floor(rng) + pose(pitch=-0.5, shoulder_left=-0.6, shoulder_right=-0.6)
    keys = (
        (0.0, start.angles),
        (0.28, start.angles + _KNEELING),
        (0.55, _sitting_on_floor(rng)),
        (0.75, propped),
        (1.0, lying + pose(roll=float(rng.choice([0.0, -1.4, 1.4])))),
    )
    return _through(rng.uniform(3.5, 6.5), start, keys)


def _lie_down_on_bed(rng: np.random.Generator, start: Figure) -> Motion:
    """Sit on the edge of a bed, swing the legs onto it, and lie back."""
    height = float(rng.uniform(0.4, 0.55))
    facing = float(rng.choice([-1, 1]))
    sits = Figure(seated(rng), start.x, start.z, float(rng.normal(0, 0.2)))
    legs_up = pose(lean=-0.2, hip_left=1.4, hip_right=1.3, shoulder_left=-0.4, shoulder_right=-0.4)
    lying = pose(pitch=-1.5, hip_left=0.2, knee_left=0.4, abduction_left=0.2, elbow_right=0.9)
    times = (0.1, 0.5, 1.0)
    poses = (sits.angles, legs_up, lying)
    angles = track(*zip(times, poses, strict=True))
    x = track((0.1, sits.x), (0.5, sits.x + 0.8 * facing))
    z = track((0.1, sits.z), (0.5, sits.z + 0.5))
    yaw = track((0.1, sits.yaw), (0.5, facing * np.pi / 2))
    lift = track((0.1, 0.0), (0.5, height))
    bed = Support("bed", sits.x - 0.05 * facing, sits.z + 0.85, 2.05, 1.1, height)

    def at(u: float) -> Figure:
        return Figure(angles(u), x(u), z(u), yaw(u), lift=lift(u))

    return Motion(_LABEL, float(rng.uniform(2.5, 5.0)), at, support=bed)


def _lie_still(rng: np.random.Generator, start: Figure) -> Motion:
    lying, bed = _lying(rng, start)
    return Motion(_LABEL, float(rng.uniform(2.0, 4.0)), lambda u: lying, support=bed)


def _turn_over(rng: np.random.Generator, start: Figure) -> Motion:
    lying, bed = _lying(rng, start)
    turn = pose(roll=float(rng.choice([-1, 1]) * rng.uniform(1.0, 3.0)))
    knees = pose(hip_left=0.5, knee_left=1.0)
    begins = float(rng.uniform(0.0, 0.3))
    angles = track(
        (begins, lying.angles),
        ((begins + 0.9) / 2, lying.angles + 0.5 * turn + knees),
        (0.9, lying.angles + turn),
    )
    seconds = float(rng.uniform(1.8, 3.5))
    return Motion(
        _LABEL, seconds, lambda u: dataclasses.replace(lying, angles=angles(u)), support=bed
    )


def _push_ups(rng: np.random.Generator, start: Figure) -> Motion:
    up = pose(pitch=1.1, shoulder_left=1.15, shoulder_right=1.15)
    low = pose(pitch=1.42, shoulder_left=0.2, shoulder_right=0.2, elbow_left=1.3, elbow_right=1.3)
    count = int(rng.integers(2, 5))

    def at(u: float) -> Figure:
        part = 0.5 - 0.5 * np.cos(2 * np.pi * count * u)
        return dataclasses.replace(start, angles=up * (1 - part) + low * part)

    return Motion(_LABEL, count * float(rng.uniform(0.9, 1.6)), at)


_KNEELING = pose(hip_left=1.5, knee_left=1.55, hip_right=-0.05, knee_right=1.55, lean=0.1)


def _sitting_on_floor(rng: np.random.Generator) -> FloatArray:
    knees = rng.uniform(0.2, 1.0, 2)
    return pose(
        lean=rng.uniform(-0.2, 0.2),
        hip_left=1.5 + 0.4 * knees[0],
        hip_right=1.5 + 0.4 * knees[1],
        knee_left=2 * knees[0],
        knee_right=2 * knees[1],
        shoulder_left=rng.uniform(-0.4, 0.6),
        shoulder_right=rng.uniform(-0.4, 0.6),
    )


def _lying(rng: np.random.Generator, start: Figure) -> tuple[Figure, Support | None]:
    """Draw a person who lies on the back or a side, on the floor or on a bed."""
    roll = float(rng.choice([0.0, 0.0, -1.4, 1.4]))
    knees = rng.uniform(0, 0.5, 2)
    angles = pose(
        pitch=-1.5,
        roll=roll,
        hip_left=knees[0],
        hip_right=knees[1],
        knee_left=2 * knees[0],
        knee_right=2 * knees[1],
        abduction_left=rng.uniform(0, 0.3),
        abduction_right=rng.uniform(0, 0.3),
        elbow_left=rng.uniform(0, 1.5),
    )
    lying = dataclasses.replace(start, angles=angles)
    if rng.random() < 0.5:
        return lying, None
    height = float(rng.uniform(0.35, 0.6))
    facing = float(rng.choice([-1, 1]))
    bed = Support("bed", start.x - 0.8 * facing, start.z + 0.15, 2.05, 1.1, height)
    return dataclasses.replace(lying, yaw=facing * np.pi / 2, lift=height), bed


def _down_and_up(
    rng: np.random.Generator, start: Figure, down: FloatArray, seconds: float
) -> Motion:
    first, last = float(rng.uniform(0.25, 0.4)), float(rng.uniform(0.6, 0.75))
    keys = ((0.0, start.angles), (first, down), (last, down), (1.0, start.angles))
    return _through(seconds, start, keys)


def _through(seconds: float, start: Figure, keys: _Keys) -> Motion:
    angles = track(*keys)
    return Motion(_LABEL, float(seconds), lambda u: dataclasses.replace(start, angles=angles(u)))


_KINDS: dict[str, Callable[[np.random.Generator, Figure], Motion]] = {
    "squat": _squat,
    "kneel": _kneel,
    "tie_shoes": _tie_shoes,
    "stretch": _stretch,
    "lean_on": _lean_on,
    "jumping_jacks": _jumping_jacks,
    "drop_object": _drop_object,
    "sit_on_floor": _sit_on_floor,
    "lie_down_on_floor": _lie_down_on_floor,
    "lie_down_on_bed": _lie_down_on_bed,
    "lie_still": _lie_still,
    "turn_over": _turn_over,
    "push_ups": _push_ups,
}
LOOK_ALIKES = tuple(_KINDS)
# These start and end in the same standing pose.
IN_PLACE = ("squat", "kneel", "tie_shoes", "stretch", "lean_on", "jumping_jacks")
