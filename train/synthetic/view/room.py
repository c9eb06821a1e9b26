"""Draws a random room with walls, openings, furniture and colours."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import FloatArray
from train.synthetic.motions.motion import Place
from train.synthetic.view.drawing import Colour, colour_of

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
    outdoors: bool = False


def random_room(
    rng: np.random.Generator,
    place: Place,
    *,
    chair_at: tuple[float, float] | None,
    door: bool,
    furniture: bool = True,
) -> Room:
    """Draw a room around `place`, or a street or garden.

    Args:
        chair_at: the chair's (x, z) in metres, or None for no chair.
        furniture: whether there may be furniture on the floor; it may hide a part of the legs.
    """
    openings = tuple(_random_openings(rng, place, door=door))
    things = tuple(_random_thing(rng, place.wall_z) for _ in range(int(rng.integers(0, 6))))
    wall, floor = _random_paint(rng)
    chair = None
    if chair_at is not None:
        chair = Chair(*chair_at, colour_of(rng.uniform(20, 200, 3)))
    outdoors = chair is None and bool(rng.random() < 0.2)
    blocks = tuple(_random_blocks(rng, place)) if furniture and not outdoors else ()
    return Room(
        wall_z=place.wall_z,
        openings=openings,
        wall=colour_of(wall),
        floor=colour_of(floor),
        chair=chair,
        things=things,
        object_colour=colour_of(rng.uniform(10, 245, 3)),
        texture_seed=int(rng.integers(2**31)),
        blocks=blocks,
        outdoors=outdoors,
    )


def _random_paint(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw the colours of wall and floor: often pale or warm walls and brown floors."""
    wall = rng.uniform(60, 235) + rng.normal(0, 18, 3)
    if rng.random() < 0.55:
        wall = rng.uniform(150, 240) * np.array([1.0, 0.97, 0.9]) + rng.normal(0, 6, 3)
    floor = rng.uniform(40, 190) + rng.normal(0, 14, 3)
    if rng.random() < 0.45:
        floor = np.array([165, 125, 90]) * rng.uniform(0.45, 1.3) + rng.normal(0, 8, 3)
    return wall, floor


def _random_blocks(rng: np.random.Generator, place: Place) -> list[Block]:
    """Draw furniture along the back wall, at the sides and, low, in front of the person."""
    blocks = []
    for _ in range(int(rng.integers(0, 4))):
        width, depth, height = _random_size(rng)
        side = float(rng.choice([-1, 1]))
        colour = _random_furniture_colour(rng)
        if rng.random() < 0.7:
            depth = min(depth, 0.5)
            z = place.wall_z - depth / 2
            x = place.x + side * (rng.uniform(0.9, 2.6) + width / 2)
        else:
            z = place.z + float(rng.uniform(-0.4, 0.4))
            x = place.x + side * (rng.uniform(1.7, 2.6) + width / 2)
        if abs(x - place.door_x) > width / 2 + 0.6:
            blocks.append(Block(float(x), float(z), width, depth, height, colour))
    if rng.random() < 0.3:
        blocks.append(_block_in_front(rng, place))
    return blocks


def _block_in_front(rng: np.random.Generator, place: Place) -> Block:
    """Draw a low block that leaves two thirds of the person's place free, to one side of it."""
    width, depth = (float(value) for value in rng.uniform((0.5, 0.4), (1.5, 0.7)))
    height = float(rng.uniform(0.35, 0.5))
    x = place.x + float(rng.choice([-1, 1])) * (rng.uniform(0.45, 1.0) + width / 2)
    z = place.z - float(rng.uniform(0.5, 1.0)) - depth / 2
    colour = _random_furniture_colour(rng)
    return Block(float(x), z, width, depth, height, colour)


def _random_furniture_colour(rng: np.random.Generator) -> Colour:
    """Draw wood, or a mostly muted colour."""
    if rng.random() < 0.45:
        return colour_of(np.array([160, 115, 75]) * rng.uniform(0.35, 1.35))
    return colour_of(rng.uniform(35, 225) + rng.normal(0, 20, 3))


def _random_size(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw width, depth and height of a bed or sofa, a table, or a cupboard."""
    low, high = (
        ((1.3, 0.7, 0.4), (2.1, 1.0, 0.58)),
        ((0.7, 0.5, 0.65), (1.5, 0.8, 0.8)),
        ((0.5, 0.35, 0.9), (1.4, 0.55, 2.1)),
    )[int(rng.integers(3))]
    width, depth, height = (float(value) for value in rng.uniform(low, high))
    return width, depth, height


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
