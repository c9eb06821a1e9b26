"""Two people face each other and act: plans of their movements, and their figures over time.

A plan says how both move in an action. Time in a plan is progress `u`: the action lasts from 0 to
1. `stage` gives the people bodies and positions; they may walk to each other before the action
and walk away after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.motions.body import Body, FloatArray, pose, random_body
from train.synthetic.motions.motion import Figure, Place
from train.synthetic.motions.poses import smooth, track
from train.synthetic.motions.reach import over_pelvis, reach, world_joints
from train.synthetic.motions.walks import forward_gait

__all__ = ["Encounter", "Hold", "Plan", "stage", "still"]

_USUAL_HEIGHT = 1.7  # metres
_STRIDE = 0.78  # length of two steps, as a fraction of the body's height
_MAX_DEPTH_ANGLE = np.pi / 3  # of the line between the two people, against the frame's width

_Pose = Callable[[float], FloatArray]
_Number = Callable[[float], float]
# A point from the joints of the person who reaches and of the other, both [17, 3], and progress.
_Target = Callable[[FloatArray, FloatArray, float], FloatArray]


def still(u: float) -> FloatArray:
    """Return no change of the pose."""
    return pose()


@dataclasses.dataclass(frozen=True)
class Hold:
    """A hand (0: left, 1: right) of person 0 or 1 moves to a target, as far as `amount` says."""

    person: int
    hand: int
    target: _Target
    amount: _Number


@dataclasses.dataclass(frozen=True)
class Plan:
    """The movements of two people in an action; person 0 acts, person 1 reacts.

    `gap` is the distance in metres between their pelvises, for people of 1.7 metres; it is smaller
    when one of them is small. `poses` are added to how each person
    stands or walks. `retreats` are metres by which each moves away from the other. `aside` is the
    offset in metres by which both stand to their own right. `carrier` says which person and hand
    hold an object.
    """

    gap: float
    poses: tuple[_Pose, _Pose] = (still, still)
    retreats: tuple[_Number, _Number] = (lambda u: 0.0, lambda u: 0.0)
    holds: tuple[Hold, ...] = ()
    aside: float = 0.0
    turns: tuple[float, float] = (0.0, 0.0)
    carrier: Callable[[float], tuple[int, int] | None] = lambda u: None
    alone: bool = False  # only person 0 is there


@dataclasses.dataclass(frozen=True)
class Encounter:
    """Two people, or one: `at(t)` are their figures t seconds after the action's start."""

    label: str
    seconds: float
    bodies: tuple[Body, ...]
    at: Callable[[float], tuple[Figure, ...]]


@dataclasses.dataclass(frozen=True)
class _Course:
    """How one person walks: metres from the own spot, before (`coming`) and after a turn."""

    coming: _Number
    leaving: _Number
    turned: _Number  # radians


def stage(
    label: str,
    plan: Plan,
    seconds: float,
    rng: np.random.Generator,
    place: Place,
    *,
    depth_angle: tuple[float, float] | None = None,
    walks: bool = True,
) -> Encounter:
    """Give the people of a plan bodies, a line to stand on around `place`, and walks.

    Args:
        depth_angle: range of the angle in radians between their line and the frame's width; None
            draws mostly small angles, up to 60 degrees.
        walks: sometimes they come to each other before, and step back or leave afterwards.
    """
    shapes = tuple(random_body(rng) for _ in range(1 if plan.alone else 2))
    if depth_angle is None:
        angle = float(np.clip(rng.normal(0, 0.45), -_MAX_DEPTH_ANGLE, _MAX_DEPTH_ANGLE))
    else:
        angle = float(rng.uniform(*depth_angle))
    side = float(rng.choice([-1.0, 1.0]))
    line = side * np.array([np.cos(angle), np.sin(angle)])  # from person 0 to person 1, (x, z)
    courses = [_course(rng, seconds, walks) for _ in shapes]
    gaits = [forward_gait(rng) for _ in shapes]
    middle = np.array([place.x, place.z])
    half_gap = plan.gap / 2 * min(shape.height_metres for shape in shapes) / _USUAL_HEIGHT

    def placed(person: int, t: float) -> Figure:
        u = t / seconds
        course = courses[person]
        inward = line if person == 0 else -line
        away = _away(plan, course, person, t, u)
        right = np.array([-inward[1], inward[0]])
        spot = middle - inward * (half_gap + away) + right * plan.aside
        ahead = (2 * course.leaving(t) - away) * np.sign(np.cos(plan.turns[person]))
        strides = ahead / (_STRIDE * shapes[person].height_metres)
        speed = abs(_away(plan, course, person, t + 0.04, u + 0.04 / seconds) - away) / 0.04
        angles = gaits[person](float(strides), min(1.0, speed / 0.6)) + plan.poses[person](u)
        yaw = np.arctan2(inward[0], -inward[1]) + plan.turns[person] + course.turned(t)
        figure = Figure(angles, float(spot[0]), float(spot[1]), float(yaw))
        return over_pelvis(figure, shapes[person])

    def at(t: float) -> tuple[Figure, ...]:
        figures = [placed(person, t) for person in range(len(shapes))]
        figures = _holding(plan, figures, shapes, t / seconds)
        carrier = plan.carrier(t / seconds)
        if carrier is not None:
            person, hand = carrier
            figures[person] = dataclasses.replace(figures[person], carried=hand)
        return tuple(figures)

    return Encounter(label, seconds, shapes, at)


def _away(plan: Plan, course: _Course, person: int, t: float, u: float) -> float:
    return course.coming(t) + course.leaving(t) + plan.retreats[person](u)


def _course(rng: np.random.Generator, seconds: float, walks: bool) -> _Course:
    start = float(rng.uniform(0.3, 1.3)) if walks and rng.random() < 0.6 else 0.0
    arrival = float(rng.uniform(-0.2, 0.12) * seconds)
    began = arrival - start / float(rng.uniform(0.5, 0.95))
    after = seconds + float(rng.uniform(0.1, 0.5))
    choice = rng.random() if walks else 1.0
    back = float(rng.uniform(0.2, 0.6)) if 0.35 < choice < 0.6 else 0.0
    gone = float(rng.uniform(0.8, 1.8)) if choice < 0.35 else 0.0
    turn = float(rng.choice([-1.0, 1.0])) * np.pi if gone else 0.0
    if start:
        coming = track((began, start), (arrival, 0.0), (after, 0.0), (after + 0.9, back))
    else:
        coming = track((after, 0.0), (after + 0.9, back))
    left = after + 0.45
    return _Course(
        coming,
        track((left, 0.0), (left + 0.2 + gone / 0.8, gone)),
        track((after, 0.0), (after + 0.55, turn)),
    )


def _holding(plan: Plan, figures: list[Figure], shapes: tuple[Body, ...], u: float) -> list[Figure]:
    """Move the hands to their targets; the targets depend on the bodies, not on other hands."""
    active = [(hold, hold.amount(u)) for hold in plan.holds]
    if not any(amount > 0 for _, amount in active):
        return figures
    joints = [world_joints(figure, body) for figure, body in zip(figures, shapes, strict=True)]
    moved = list(figures)
    for hold, amount in active:
        person = hold.person
        target = hold.target(joints[person], joints[-1 if person == 0 else 0], u)
        moved[person] = reach(
            moved[person], shapes[person], hold.hand, target, amount=smooth(amount)
        )
    return moved
