"""Draws a random room with walls, openings, furniture and colours."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.drawing import Colour, colour_of
from train.synthetic.motion import Place

__all__ = ["Block", "Chair", "Opening", "Room", "Thing", "random_room"]


@dataclasses.dataclass(frozen=True)
class Opening:
    """A door or window in the back wall; people behind the wall are visible only through it."""

    x0: float
    x1: float
    y0: float
    y1: float


@dataclasses.dataclass(frozen=True)
class Chair:
    """A chair at (x, z)."""

    x: float
    z: float
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Thing:
    """A poster on the back wall, or a box on the floor in front of it (`y` is 0)."""

    x: float
    y: float
    z: float
    width: float
    height: float
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Block:
    """A piece of furniture on the floor, such as a bed or a cupboard: a box around (x, z).

    People behind it are partly hidden by it.
    """

    x: float
    z: float
    width: float
    depth: float
    height: float
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Room:
    """The still parts of a scene; lengths are in metres, colours are RGB from 0 to 255."""

    wall_z: float
    openings: tuple[Opening, ...]
    wall: Colour
    floor: Colour
    chair: Chair | None
    things: tuple[Thing, ...]
    object_colour: Colour  # colour of the object that people pick up
    texture_seed: int
    blocks: tuple[Block, ...] = ()


def random_room(
    rng: np.random.Generator, place: Place, *, chair_at: tuple[float, float] | None, door: bool
) -> Room:
    """Draw a room around `place`; `chair_at` is the chair's (x, z), or None for no chair."""
    openings = tuple(_random_openings(rng, place, door=door))
    things = tuple(_random_thing(rng, place.wall_z) for _ in range(int(rng.integers(0, 6))))
    wall = rng.uniform(60, 235) + rng.normal(0, 18, 3)
    floor = rng.uniform(40, 190) + rng.normal(0, 18, 3)
    chair = None
    if chair_at is not None:
        chair = Chair(*chair_at, colour_of(rng.uniform(20, 200, 3)))
    return Room(
        wall_z=place.wall_z,
        openings=openings,
        wall=colour_of(wall),
        floor=colour_of(floor),
        chair=chair,
        things=things,
        object_colour=colour_of(rng.uniform(10, 245, 3)),
        texture_seed=int(rng.integers(2**31)),
    )


def _random_openings(rng: np.random.Generator, place: Place, *, door: bool) -> list[Opening]:
    openings = []
    if door:
        half = rng.uniform(0.42, 0.55)
        height = float(rng.uniform(1.95, 2.2))
        openings.append(Opening(place.door_x - half, place.door_x + half, 0.0, height))
    if rng.random() < 0.4:
        x0 = place.door_x + float(rng.choice([-1, 1])) * rng.uniform(1.2, 2.0)
        openings.append(Opening(x0, x0 + float(rng.uniform(0.7, 1.4)), 0.95, 2.05))
    return openings


def _random_thing(rng: np.random.Generator, wall_z: float) -> Thing:
    colour = colour_of(rng.uniform(15, 245, 3))
    x = float(rng.uniform(-3.2, 3.2))
    width = float(rng.uniform(0.2, 0.9))
    height = float(rng.uniform(0.2, 0.9))
    if rng.random() < 0.5:
        return Thing(x, float(rng.uniform(1.1, 1.7)), wall_z, width, height, colour)
    return Thing(x, 0.0, float(wall_z - 0.36), width, height, colour)
