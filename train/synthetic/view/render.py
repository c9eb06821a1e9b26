"""Draws people and objects over the background image of their room."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.motions import body as bodies
from train.synthetic.motions.body import FloatArray
from train.synthetic.people import Person
from train.synthetic.view.camera import Camera
from train.synthetic.view.drawing import Colour, Frame, draw_polygon, shaded
from train.synthetic.view.figures import Part, figure_parts, figure_points
from train.synthetic.view.furniture import block_mask, hides
from train.synthetic.view.room import Block, Room
from train.synthetic.view.room_painting import opening_polygon

__all__ = ["render"]

_OBJECT_METRES = 0.11  # half of the width


def render(
    background: Frame,
    room: Room,
    camera: Camera,
    people: Sequence[Person],
    on_floor: Sequence[tuple[float, float]] = (),
) -> Frame:
    """Draw people and objects on a copy of the background, from far to near; return the frame.

    Furniture of the background covers who and what is behind it.

    Args:
        on_floor: positions (x, z) in metres of objects on the floor.
    """
    frame = background.copy()
    behind_wall = [person for person in people if person.figure.z > room.wall_z]
    if behind_wall:
        _draw_behind_wall(frame, room, camera, behind_wall)
    inside = [person for person in people if person.figure.z <= room.wall_z]
    blocks = sorted(room.blocks, key=lambda block: -(block.z + block.depth / 2))
    spots = [np.array([x, 0.09, z]) for x, z in on_floor]
    for index, block in enumerate([*blocks, None]):
        group = [
            person
            for person in inside
            if _first_hiding(person.figure.x, person.figure.z, blocks, camera) == index
        ]
        objects = [
            spot for spot in spots if _first_hiding(spot[0], spot[2], blocks, camera) == index
        ]
        if not group and not objects:
            continue
        _draw_together(frame, room, camera, group, objects)
        for covering in blocks[index:] if block is not None else ():
            _cover(frame, background, covering, camera)
    return frame


def _first_hiding(x: float, z: float, blocks: Sequence[Block], camera: Camera) -> int:
    """Return the number of the farthest block that hides what stands at (x, z)."""
    for index, block in enumerate(blocks):
        if hides(block, x, z, camera):
            return index
    return len(blocks)


def _cover(frame: Frame, background: Frame, block: Block, camera: Camera) -> None:
    found = block_mask(block, camera)
    if found is not None:
        rows, columns, mask = found
        np.copyto(frame[rows, columns], background[rows, columns], where=mask)


def _draw_behind_wall(frame: Frame, room: Room, camera: Camera, people: Sequence[Person]) -> None:
    layer = frame.copy()
    _draw_together(layer, room, camera, people, ())
    np.copyto(frame, layer, where=_openings_mask(room, camera))


@functools.lru_cache(maxsize=4)
def _openings_mask(room: Room, camera: Camera) -> NDArray[np.bool_]:
    mask = np.zeros((camera.height, camera.width, 3), np.uint8)
    for opening in room.openings:
        draw_polygon(mask, opening_polygon(opening, room, camera), (255, 255, 255))
    for block in room.blocks:
        found = block_mask(block, camera)
        if found is not None:
            rows, columns, covered = found
            mask[rows, columns][covered] = 0
    return mask > 127


def _draw_together(
    frame: Frame,
    room: Room,
    camera: Camera,
    people: Sequence[Person],
    objects: Sequence[FloatArray],
) -> None:
    """Draw people and objects; who is near another person may be in front of a part of it."""
    light = room.texture_seed % 201 / 100 - 1
    strength = 0.1 + room.texture_seed % 5 / 10
    parts = [_object_part(spot, camera, room.object_colour) for spot in objects]
    for person in people:
        points = figure_points(person)
        _draw_shadow(frame, camera, points, person.figure.lift, strength)
        parts += figure_parts(person, camera, light)
        if person.figure.carried is not None:
            hand = points[bodies.HANDS[person.figure.carried]]
            parts.append(_object_part(hand, camera, room.object_colour))
    for part in sorted(parts, key=lambda part: -part.depth):
        for polygon, colour in part.shapes:
            fixed = (polygon.clip(-4000, 8000) * 16).astype(np.int32)
            cv2.fillPoly(frame, [fixed], colour, cv2.LINE_AA, 4)


def _object_part(spot: FloatArray, camera: Camera, colour: Colour) -> Part:
    pixel = camera.project(spot[None])[0]
    half = _OBJECT_METRES * float(camera.scales(spot[None])[0])
    corners = pixel + half * np.array([[-1, -0.8], [1, -0.8], [1, 0.8], [-1, 0.8]])
    lid = pixel + (corners - pixel) * np.array([1.0, 0.25])
    depth = float(camera.depths(spot[None])[0]) - 0.05
    return Part(depth, ((corners, shaded(colour, 0.8)), (lid, shaded(colour, 1.2))))


def _draw_shadow(
    frame: Frame, camera: Camera, points: FloatArray, lift: float, strength: float
) -> None:
    ground = points.copy()
    ground[:, 1] = lift
    pixels = camera.project(ground)
    margin = 0.08 * float(camera.scales(ground[:1])[0])
    left, top = (pixels.min(axis=0) - margin).clip(0, (camera.width, camera.height)).astype(int)
    right, bottom = (pixels.max(axis=0) + margin).clip(0, (camera.width, camera.height)).astype(int)
    if right - left < 2 or bottom - top < 2:
        return
    mask = cv2.resize(_soft_shadow(strength), (right - left, bottom - top))
    frame[top:bottom, left:right] = cv2.multiply(frame[top:bottom, left:right], mask, scale=1 / 255)


@functools.lru_cache(maxsize=4)
def _soft_shadow(strength: float) -> Frame:
    y, x = np.ogrid[-1:1:48j, -1:1:48j]
    inside = np.clip(1.4 - 1.4 * np.hypot(x, y), 0, 1)
    return np.repeat((255 * (1 - strength * inside)).astype(np.uint8)[..., None], 3, axis=2)
