"""Paints the room, which is the still background of every frame."""

from __future__ import annotations

import cv2
import numpy as np

from train.synthetic.camera import Camera
from train.synthetic.drawing import Frame, colour_of, draw_line, draw_polygon, shaded
from train.synthetic.room import Chair, Opening, Room, Thing

__all__ = ["draw_room", "opening_pixels"]


def draw_room(room: Room, camera: Camera) -> Frame:
    """Paint the room as the camera sees it: `H W C` uint8 RGB."""
    rng = np.random.default_rng(room.texture_seed)
    frame = np.empty((camera.height, camera.width, 3), np.uint8)
    frame[:] = room.wall
    _paint_texture(frame, rng, strength=rng.uniform(2, 14))
    _paint_floor(frame, room, camera, rng)
    for opening in room.openings:
        _paint_opening(frame, opening, room, camera, rng)
    for thing in room.things:
        _paint_thing(frame, camera, thing)
    if room.chair is not None:
        _paint_chair(frame, camera, room.chair)
    light = np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), camera.width)[None, :, None]
    lit: Frame = np.clip(frame * light, 0, 255).astype(np.uint8)
    return lit


def opening_pixels(opening: Opening, room: Room, camera: Camera) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of an opening in pixels, limited to the frame."""
    top_left = (opening.x0, opening.y1, room.wall_z)
    bottom_right = (opening.x1, opening.y0, room.wall_z)
    (left, top), (right, bottom) = camera.project_points(top_left, bottom_right)
    left, right = (int(np.clip(value, 0, camera.width)) for value in (left, right))
    top, bottom = (int(np.clip(value, 0, camera.height)) for value in (top, bottom))
    return left, top, right, bottom


def _paint_floor(frame: Frame, room: Room, camera: Camera, rng: np.random.Generator) -> None:
    near = 0.6
    wide = 9.0
    polygon = camera.project_points(
        (-wide, 0, near),
        (wide, 0, near),
        (wide, 0, room.wall_z),
        (-wide, 0, room.wall_z),
    )
    polygon[:2, 1] = camera.height + 10
    draw_polygon(frame, polygon, room.floor)
    if rng.random() >= 0.7:
        return
    # Tiles or floorboards.
    spacing = rng.uniform(0.3, 1.0)
    colour = shaded(room.floor, float(rng.choice([0.85, 1.12])))
    for x in np.arange(-wide, wide, spacing):
        start, end = camera.project_points((x, 0, near), (x, 0, room.wall_z))
        draw_line(frame, start, end, colour, 1)
    for z in np.arange(near, room.wall_z, spacing * float(rng.choice([1.0, 3.0]))):
        start, end = camera.project_points((-wide, 0, z), (wide, 0, z))
        draw_line(frame, start, end, colour, 1)


def _paint_opening(
    frame: Frame, opening: Opening, room: Room, camera: Camera, rng: np.random.Generator
) -> None:
    left, top, right, bottom = opening_pixels(opening, room, camera)
    if right <= left or bottom <= top:
        return
    inside = colour_of(rng.uniform(15, 220) + rng.normal(0, 20, 3))
    frame[top:bottom, left:right] = inside
    floor_row = int(camera.project_points((0.0, 0.0, room.wall_z + 1.5))[0, 1])
    frame[max(top, min(floor_row, bottom)) : bottom, left:right] = shaded(inside, 0.7)
    border = colour_of(rng.uniform(20, 240, 3))
    thickness = max(1, int(0.05 * camera.scale(room.wall_z)))
    cv2.rectangle(frame, (left - 1, top - 1), (right, bottom), border, thickness)


def _paint_chair(frame: Frame, camera: Camera, chair: Chair) -> None:
    seat = 0.43
    back_height = 0.9
    left = chair.x - 0.24
    right = chair.x + 0.24
    for x in (left, right):
        for z in (chair.z + 0.12, chair.z + 0.42):
            foot, top = camera.project_points((x, 0, z), (x, seat, z))
            draw_line(frame, foot, top, shaded(chair.colour, 0.7), 0.04 * camera.scale(z))
    front_z = chair.z + 0.1
    seat_z = chair.z + 0.45
    back_z = chair.z + 0.47
    back = camera.project_points(
        (left, seat, seat_z),
        (right, seat, seat_z),
        (right, back_height, back_z),
        (left, back_height, back_z),
    )
    cushion = camera.project_points(
        (left, seat, front_z),
        (right, seat, front_z),
        (right, seat, seat_z),
        (left, seat, seat_z),
    )
    draw_polygon(frame, back, shaded(chair.colour, 0.85))
    draw_polygon(frame, cushion, chair.colour)


def _paint_thing(frame: Frame, camera: Camera, thing: Thing) -> None:
    left = thing.x
    right = thing.x + thing.width
    bottom = thing.y
    top = thing.y + thing.height
    z = thing.z
    front = camera.project_points(
        (left, bottom, z),
        (right, bottom, z),
        (right, top, z),
        (left, top, z),
    )
    draw_polygon(frame, front, thing.colour)
    if bottom > 0.0:
        return
    lid = camera.project_points(
        (left, top, z),
        (right, top, z),
        (right, top, z + 0.35),
        (left, top, z + 0.35),
    )
    draw_polygon(frame, lid, shaded(thing.colour, 1.2))


def _paint_texture(frame: Frame, rng: np.random.Generator, strength: float) -> None:
    rows = int(rng.integers(4, 24))
    columns = int(rng.integers(4, 40))
    coarse = rng.normal(0, strength, (rows, columns, 1)).astype(np.float32)
    smooth = cv2.resize(coarse, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_CUBIC)
    np.clip(frame + smooth[..., None], 0, 255, out=frame, casting="unsafe")
