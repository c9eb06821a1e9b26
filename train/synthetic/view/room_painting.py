"""Paints the room, which is the still background of every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.view.camera import Camera
from train.synthetic.view.drawing import Frame, draw_line, draw_polygon, shaded
from train.synthetic.view.furniture import cuboid_faces, draw_block
from train.synthetic.view.room import Block, Chair, Opening, Room, Thing
from train.synthetic.view.surfaces import HALF_WIDTH_METRES, SCALE, Surfaces, paint_surfaces
from train.synthetic.view.textures import ImageArray, noise

__all__ = ["draw_room", "opening_polygon"]

_MAX_ROWS = 360  # larger frames are painted in this size and enlarged


def draw_room(room: Room, camera: Camera) -> Frame:
    """Paint the room as the camera sees it: `H W C` uint8 RGB."""
    rng = np.random.default_rng(room.texture_seed)
    surfaces = paint_surfaces(room, rng)
    painted = _seen_surfaces(surfaces, room, camera)
    lit = np.clip(painted * _light(rng, painted.shape[:2])[..., None], 0, 255).astype(np.uint8)
    frame: Frame = cv2.resize(lit, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    for thing in room.things:
        if thing.y == 0.0:
            _paint_box(frame, camera, thing)
    for block in sorted(room.blocks, key=lambda block: -block.z):
        draw_block(frame, camera, block)
    if room.chair is not None:
        _paint_chair(frame, camera, room.chair)
    return _muted(frame, float(rng.uniform(0.2, 0.9)))


def opening_polygon(opening: Opening, room: Room, camera: Camera) -> NDArray[np.float64]:
    """Return the corners of an opening in pixels, `[4, 2]`."""
    z = room.wall_z
    return camera.project_points(
        (opening.x0, opening.y0, z),
        (opening.x1, opening.y0, z),
        (opening.x1, opening.y1, z),
        (opening.x0, opening.y1, z),
    )


def _seen_surfaces(surfaces: Surfaces, room: Room, camera: Camera) -> ImageArray:
    """Look up, for every pixel, the surface that its ray meets first."""
    zoom = min(1.0, _MAX_ROWS / camera.height)
    rows, columns = round(camera.height * zoom), round(camera.width * zoom)
    grid_x, grid_y = np.meshgrid(
        (np.arange(columns, dtype=np.float32) + 0.5) / zoom,
        (np.arange(rows, dtype=np.float32) + 0.5) / zoom,
    )
    dx, dy, dz = camera.directions(grid_x, grid_y).astype(np.float32)
    wall_z = room.wall_z - camera.z_metres
    side = max(surfaces.side_metres, abs(camera.x_metres) + 0.4)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_back = np.where(dz > 1e-6, wall_z / dz, np.inf)
        to_floor = np.where(dy < -1e-6, -camera.height_metres / dy, np.inf)
        to_side = np.where(np.abs(dx) > 1e-6, (np.sign(dx) * side - camera.x_metres) / dx, np.inf)
    first = np.minimum(np.minimum(to_back, to_floor), np.minimum(to_side, 50.0))
    x = camera.x_metres + first * dx
    y = camera.height_metres + first * dy
    z = camera.z_metres + first * dz
    across = (x + HALF_WIDTH_METRES) * SCALE
    up = surfaces.back.shape[0] - y * SCALE
    back_way = (room.wall_z - z) * SCALE
    painted = _looked_up(surfaces.back, across, up)
    on_floor = (first == to_floor)[..., None]
    painted = np.where(on_floor, _looked_up(surfaces.floor, across, back_way), painted)
    on_side = first == to_side
    if on_side.any():
        painted = np.where(on_side[..., None], _looked_up(surfaces.side, back_way, up), painted)
    is_above = (y > surfaces.height_metres)[..., None]
    result: ImageArray = np.where(is_above, surfaces.above, painted)
    return result


def _muted(frame: Frame, saturation: float) -> Frame:
    """Mix a frame with its grey version: rooms have paler colours than paint does."""
    mix = np.full((3, 3), (1 - saturation) / 3) + saturation * np.eye(3)
    muted: Frame = cv2.transform(frame, mix)
    return muted


def _looked_up(image: ImageArray, columns: ImageArray, rows: ImageArray) -> ImageArray:
    found: ImageArray = cv2.remap(
        image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return found


def _light(rng: np.random.Generator, size: tuple[int, int]) -> ImageArray:
    """Draw the light in a room: a slope, a brighter spot of a lamp or window, soft shadows."""
    rows, columns = size
    slope = np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), columns)[None]
    y, x = np.ogrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    middle = rng.uniform(0, 1, 2)
    spot = np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / rng.uniform(0.02, 0.4))
    strength = float(rng.uniform(0, 0.6)) if rng.random() < 0.6 else 0.0
    light: ImageArray = (slope * (1.0 - 0.3 * strength + strength * spot)).astype(np.float32)
    light += noise(rng, size, 0.05)
    return light


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


def _paint_box(frame: Frame, camera: Camera, thing: Thing) -> None:
    depth = 0.3
    block = Block(
        thing.x + thing.width / 2,
        thing.z + depth / 2,
        thing.width,
        depth,
        thing.height,
        thing.colour,
    )
    for corners, shade in cuboid_faces(block, camera, 0.0, block.height):
        draw_polygon(frame, corners, shaded(block.colour, shade))
