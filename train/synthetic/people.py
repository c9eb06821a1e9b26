"""Draws the people of a scene: an actor with a body, a pair, and people who only pass or stand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from train.synthetic.actions import draw_motion
from train.synthetic.motions.body import Body, FloatArray, random_body
from train.synthetic.motions.encounters import Encounter
from train.synthetic.motions.motion import Figure, Motion, Place, idle_sway
from train.synthetic.motions.motions_in_place import seated
from train.synthetic.motions.poses import standing, track
from train.synthetic.motions.walks import forward_gait

__all__ = [
    "PeopleAt",
    "Person",
    "SpotsAt",
    "actor",
    "objects_on_floor",
    "pair",
    "play",
    "with_bystander",
    "with_company",
    "with_passers_by",
]

_PASSER_BY_SPEED = (0.7, 1.6)  # metres per second
_PASSER_BY_SECONDS = 6  # visible this long before passing the door, and as long after it


@dataclasses.dataclass(frozen=True)
class Person:
    """A person that can be drawn: a figure and its body."""

    figure: Figure
    body: Body


PeopleAt: TypeAlias = Callable[[float], list[Person]]
SpotsAt: TypeAlias = Callable[[float], list[tuple[float, float]]]


def play(motion: Motion, start: float) -> Callable[[float], Figure]:
    """Turn the motion into a function of time in seconds.

    It shows the first pose before the motion, and the last pose after it.
    """
    return lambda t: motion.at_time(t - start)


def objects_on_floor(motions: Sequence[tuple[float, Motion]]) -> SpotsAt:
    """Return a function of time that gives the positions of objects on the floor.

    Args:
        motions: pairs of a start time in seconds and a motion.
    """

    def at(t: float) -> list[tuple[float, float]]:
        figures = ((motion, play(motion, start)(t)) for start, motion in motions)
        return [
            motion.object_spot
            for motion, figure in figures
            if motion.object_spot and figure.carried is None
        ]

    return at


def actor(
    rng: np.random.Generator,
    figure_at: Callable[[float], Figure | None],
    *,
    sway: float | None = None,
    body: Body | None = None,
) -> PeopleAt:
    """Return a person with clothes and idle movement, as a function of time.

    Args:
        figure_at: function that returns the figure at a time in seconds, or None while it is away.
        sway: strength of the idle movement in radians; None draws a random strength.
        body: the body; None draws a random one.
    """
    strength = float(rng.uniform(0.02, 0.12)) if sway is None else sway
    sway_at = idle_sway(rng, strength)
    shape = random_body(rng) if body is None else body

    def people(t: float) -> list[Person]:
        figure = figure_at(t)
        if figure is None:
            return []
        angles: FloatArray = figure.angles + sway_at(t)
        return [Person(dataclasses.replace(figure, angles=angles), shape)]

    return people


def pair(rng: np.random.Generator, encounter: Encounter, start: float) -> PeopleAt:
    """Return the people of an encounter that starts at `start` seconds, as a function of time."""
    sways = [idle_sway(rng, float(rng.uniform(0.005, 0.03))) for _ in encounter.bodies]

    def people(t: float) -> list[Person]:
        return [
            Person(dataclasses.replace(figure, angles=figure.angles + sway(t)), body)
            for figure, body, sway in zip(
                encounter.at(t - start), encounter.bodies, sways, strict=True
            )
        ]

    return people


def with_bystander(rng: np.random.Generator, place: Place, people: PeopleAt) -> PeopleAt:
    """Add a person who stands behind, one to two and a half metres to a side of `place`."""
    x = place.x + float(rng.choice([-1, 1]) * rng.uniform(1.0, 2.5))
    z = float(rng.uniform(place.z + 0.4, place.wall_z - 0.3))
    figure = Figure(standing(rng), x, z, float(rng.uniform(-np.pi, np.pi)))
    bystander = actor(rng, lambda t: figure)
    return lambda t: [*people(t), *bystander(t)]


def with_company(
    rng: np.random.Generator, place: Place, people: PeopleAt, seconds: float
) -> PeopleAt:
    """Add a person at a side who only sits, or stands and sometimes walks nearer or back.

    The walks go towards the camera or away from it, because walks to a side are actions.
    """
    x = place.x + float(rng.choice([-1, 1]) * rng.uniform(1.7, 2.4))
    far = place.wall_z - 0.35
    if rng.random() < 0.4:
        sits = Figure(seated(rng), x, far, float(rng.normal(0, 0.6)))
        company = actor(rng, lambda t: sits)
    else:
        company = actor(rng, _to_and_fro(rng, x, far, seconds))
    return lambda t: [*people(t), *company(t)]


def _to_and_fro(
    rng: np.random.Generator, x: float, far: float, seconds: float
) -> Callable[[float], Figure]:
    times, depths, yaws = [0.0], [far], [float(rng.choice([0.0, np.pi]))]
    while times[-1] < seconds:
        starts = times[-1] + float(rng.uniform(3.0, 15.0))
        goal = far - float(rng.uniform(0.0, 1.2))
        takes = abs(goal - depths[-1]) / 0.8 + 0.3
        yaw = 0.0 if goal < depths[-1] else np.pi
        times += [starts, starts + 0.7, starts + 0.7 + takes]
        depths += [depths[-1], depths[-1], goal]
        yaws += [yaws[-1], yaw, yaw]
    depth_at = track(*zip(times, depths, strict=True))
    yaw_at = track(*zip(times, yaws, strict=True))
    moves = forward_gait(rng)

    def at(t: float) -> Figure:
        z, speed = depth_at(t), abs(depth_at(t + 0.04) - depth_at(t)) / 0.04
        ahead = (far - z) * np.cos(yaw_at(t))
        return Figure(moves(float(ahead) / 1.3, min(1.0, speed / 0.6)), x, z, yaw_at(t))

    return at


def with_passers_by(
    rng: np.random.Generator, place: Place, people: PeopleAt, seconds: float, *, rate: float = 0.25
) -> PeopleAt:
    """Add people who pass behind the wall and are visible through the door and windows.

    Args:
        seconds: length of the scene.
        rate: average number of people who pass in twelve seconds.
    """
    count = int(rng.poisson(rate * max(1.0, seconds / 12)))
    passers_by = [_passer_by(rng, place, seconds) for _ in range(count)]
    return lambda t: [person for group in (people, *passers_by) for person in group(t)]


def _passer_by(rng: np.random.Generator, place: Place, seconds: float) -> PeopleAt:
    z = place.wall_z + float(rng.uniform(1.5, 5.0))
    middle = float(rng.uniform(0, seconds))
    speed = float(rng.uniform(*_PASSER_BY_SPEED) * rng.choice([-1, 1]))
    start = Place(0.0, z, 0.0, place.wall_z)
    walk = draw_motion("walk_right", rng, start, target=(abs(speed) * 20, z))

    def at(t: float) -> Figure | None:
        if abs(t - middle) > _PASSER_BY_SECONDS:
            return None
        figure = walk.at(float(np.clip(0.5 + (t - middle) / 20, 0, 1)))
        return dataclasses.replace(figure, x=place.door_x + speed * (t - middle), z=z)

    return actor(rng, at)
