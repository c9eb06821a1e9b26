"""Draws people for background videos: they move, but they perform none of the actions.

Each kind of background has a function. Its arguments are a random generator, the place, a motion
that the video must not show completely, and the length of the video in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.actions import draw_motion
from train.synthetic.motions.look_alikes import IN_PLACE, draw_look_alike
from train.synthetic.motions.motion import Figure, Motion, Place
from train.synthetic.people import PeopleAt, actor, play
from train.synthetic.truth import MAX_BACKGROUND_FRACTION

__all__ = ["draw_background_kind", "draw_background_people", "draw_quiet_people"]


def draw_background_kind(rng: np.random.Generator) -> str:
    """Draw the kind of a background video.

    "pair" is two people (`pairs_background.py`), "look_alike" a movement of `look_alikes.py`; the
    other kinds are for `draw_background_people`.
    """
    kinds = ["hold", "hold", "idle", "empty", "towards", "glimpse", "glimpse", "turn"]
    kinds += ["pair", "pair", "pair", "look_alike", "look_alike", "look_alike", "look_alike"]
    return str(rng.choice(kinds))


def draw_background_people(
    kind: str, rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> PeopleAt:
    """Draw the people of a background video of this kind; the video is `seconds` long."""
    return _KINDS[kind](rng, place, motion, seconds)


def draw_quiet_people(
    rng: np.random.Generator, pose: Figure, seconds: float, *, turns: bool
) -> PeopleAt:
    """Draw the people of a recording in which nothing happens: nobody, or one person who stays.

    The person keeps a pose and sways; if `turns`, it stands, and turns around now and then. Some
    standing people move in ways that are no action, such as kneeling (`look_alikes.py`).
    """
    if rng.random() < 0.25:
        return lambda t: []
    middles = np.cumsum(rng.uniform(5.0, 20.0, size=int(seconds / 5) + 1))
    lengths = rng.uniform(0.5, 1.5, size=len(middles))
    angles = rng.choice([-1, 1], size=len(middles)) * rng.uniform(0.5, 2.5, size=len(middles))
    if not turns:
        return actor(rng, lambda t: pose)
    if rng.random() < 0.5:
        return actor(rng, _moves_now_and_then(rng, pose, seconds))
    start = float(rng.uniform(-3, 3))

    def at(t: float) -> Figure:
        turned = np.clip((t - middles) / lengths + 0.5, 0, 1)
        return dataclasses.replace(pose, yaw=float(start + (angles * turned).sum()))

    return actor(rng, at)


def _moves_now_and_then(
    rng: np.random.Generator, pose: Figure, seconds: float
) -> Callable[[float], Figure]:
    place = Place(pose.x, pose.z, 0.0, 0.0)
    moves: list[tuple[float, Motion]] = []
    clock = float(rng.uniform(1.0, 10.0))
    while clock < seconds:
        moves.append((clock, draw_look_alike(str(rng.choice(IN_PLACE)), rng, place, start=pose)))
        clock += moves[-1][1].seconds + float(rng.uniform(2.0, 20.0))

    def at(t: float) -> Figure:
        shown = [play(motion, start) for start, motion in moves if start <= t]
        return shown[-1](t) if shown else pose

    return at


def _hold(rng: np.random.Generator, place: Place, motion: Motion, seconds: float) -> PeopleAt:
    """Hold the first or the last pose of an action."""
    end = float(rng.integers(2))
    return actor(rng, lambda t: motion.at(end))


def _idle(rng: np.random.Generator, place: Place, motion: Motion, seconds: float) -> PeopleAt:
    """Hold the first or the last pose of an action, with lively idle movement."""
    end = float(rng.integers(2))
    return actor(rng, lambda t: motion.at(end), sway=0.3)


def _empty(rng: np.random.Generator, place: Place, motion: Motion, seconds: float) -> PeopleAt:
    """Show nobody."""
    return lambda t: []


def _walk_in_depth(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> PeopleAt:
    """Walk straight towards or away from the camera, so that no walk to a side is visible."""
    far = place.wall_z - 0.3
    near = place.wall_z - rng.uniform(1.2, 2.2)
    z0, z1 = (far, near) if rng.random() < 0.5 else (near, far)
    start = Place(0.0, 0.0, 0.0, place.wall_z)
    walk = draw_motion("walk_right", rng, start, target=(seconds * 1.1, 0.0))
    yaw = float(rng.choice([0.0, np.pi]))

    def at(t: float) -> Figure:
        u = t / seconds
        figure = walk.at(0.2 + 0.6 * u)
        return dataclasses.replace(figure, x=place.x, z=float(z0 + (z1 - z0) * u), yaw=yaw)

    return actor(rng, at)


def _turn(rng: np.random.Generator, place: Place, motion: Motion, seconds: float) -> PeopleAt:
    """Turn around while standing at one position."""
    start = rng.uniform(-3, 3)
    middle = rng.uniform(0.3, 0.7) * seconds
    length = rng.uniform(0.5, 1.5)
    angle = float(rng.choice([-1, 1]) * rng.uniform(1.2, 3.2))
    stands_first = motion.label in ("raise_arm", "pick_up", "fall", "sit_down")
    standing = motion.at(0.0) if stands_first else motion.at(1.0)

    def at(t: float) -> Figure:
        turned = np.clip((t - middle) / length + 0.5, 0, 1)
        return dataclasses.replace(standing, yaw=float(start + angle * turned))

    return actor(rng, at)


def _glimpse(rng: np.random.Generator, place: Place, motion: Motion, seconds: float) -> PeopleAt:
    """Show the last moments of an action at the start, or its first moments at the end."""
    fraction = rng.uniform(0.0, MAX_BACKGROUND_FRACTION)
    if rng.random() < 0.5:
        start = -(1 - fraction) * motion.seconds
    else:
        start = seconds - fraction * motion.seconds
    return actor(rng, play(motion, start))


_KINDS: dict[str, Callable[[np.random.Generator, Place, Motion, float], PeopleAt]] = {
    "hold": _hold,
    "idle": _idle,
    "empty": _empty,
    "towards": _walk_in_depth,
    "glimpse": _glimpse,
    "turn": _turn,
}
