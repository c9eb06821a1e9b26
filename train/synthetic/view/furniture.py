"""Draws furniture: beds, sofas, tables and cupboards that are boxes on the floor."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.motions.body import FloatArray
from train.synthetic.view.camera import Camera
from train.synthetic.view.drawing import Frame, draw_polygon, shaded
from train.synthetic.view.room import Block

__all__ = ["block_mask", "cuboid_faces", "draw_block", "hides"]

_BED_METRES = 0.6  # lower and wider blocks are beds and sofas
_TABLE_METRES = 0.85  # higher blocks are cupboards
_TOP_METRES = 0.06
_LEG_METRES = 0.06
_NEAREST_METRES = 0.3


def draw_block(frame: Frame, camera: Camera, block: Block) -> None:
    """Draw a piece of furniture; furniture at or behind the camera is left out."""
    for corners, shade in _faces(block, camera):
        draw_polygon(frame, corners, shaded(block.colour, shade))
    if block.height > _TABLE_METRES or block.height < _BED_METRES:
        for corners, shade in _details(block, camera):
            draw_polygon(frame, corners, shaded(block.colour, shade))


@functools.lru_cache(maxsize=64)
def block_mask(block: Block, camera: Camera) -> tuple[slice, slice, NDArray[np.bool_]] | None:
    """Return the rows and columns around a block, and a mask of its pixels in them.

    None if no pixel of the frame shows the block.
    """
    faces = [corners for corners, _ in _faces(block, camera)]
    if not faces:
        return None
    mask = np.zeros((camera.height, camera.width, 3), np.uint8)
    for corners in faces:
        draw_polygon(mask, corners, (255, 255, 255))
    left, top, width, height = cv2.boundingRect(mask[..., 0])
    if width == 0:
        return None
    rows, columns = slice(top, top + height), slice(left, left + width)
    return rows, columns, mask[rows, columns] > 127


def hides(block: Block, x: float, z: float, camera: Camera) -> bool:
    """Return whether what stands at (x, z) is behind the block, as the camera sees it."""
    if z > block.z + block.depth / 2:
        return True
    left, right = block.x - block.width / 2, block.x + block.width / 2
    if z < block.z - block.depth / 2:
        return False
    return (x > right and camera.x_metres < left) or (x < left and camera.x_metres > right)


def cuboid_faces(
    block: Block, camera: Camera, bottom: float, top: float
) -> list[tuple[FloatArray, float]]:
    """Return the faces of a box that the camera sees: corners in pixels `[4, 2]`, and a shade.

    Args:
        bottom: height of its lower side in metres; `block.height` is not used.
        top: height of its upper side in metres.
    """
    x0, x1 = block.x - block.width / 2, block.x + block.width / 2
    z0, z1 = block.z - block.depth / 2, block.z + block.depth / 2
    corners = np.array([[x, y, z] for y in (bottom, top) for z in (z0, z1) for x in (x0, x1)])
    if camera.depths(corners).min() < _NEAREST_METRES:
        return []
    pixels = camera.project(corners)
    faces = []
    if camera.x_metres < x0:
        faces.append((pixels[[0, 2, 6, 4]], 0.62))
    if camera.x_metres > x1:
        faces.append((pixels[[1, 3, 7, 5]], 0.68))
    if camera.z_metres < z0:
        faces.append((pixels[[0, 1, 5, 4]], 0.8))
    if camera.height_metres > top:
        faces.append((pixels[[4, 5, 7, 6]], 1.1))
    return faces


def _faces(block: Block, camera: Camera) -> list[tuple[FloatArray, float]]:
    if not _BED_METRES <= block.height <= _TABLE_METRES:
        return cuboid_faces(block, camera, 0.0, block.height)
    faces = []
    for dz in (1, -1):
        for dx in (-1, 1):
            leg = Block(
                block.x + dx * (block.width - _LEG_METRES) / 2,
                block.z + dz * (block.depth - _LEG_METRES) / 2,
                _LEG_METRES,
                _LEG_METRES,
                block.height,
                block.colour,
            )
            faces += [
                (corners, 0.7 * shade)
                for corners, shade in cuboid_faces(leg, camera, 0.0, block.height)
            ]
    return faces + cuboid_faces(block, camera, block.height - _TOP_METRES, block.height)


def _details(block: Block, camera: Camera) -> Iterator[tuple[FloatArray, float]]:
    """Yield doors and drawers of a cupboard, or cushions and a blanket of a bed or sofa."""
    if not cuboid_faces(block, camera, 0.0, block.height):
        return
    x0, z0 = block.x - block.width / 2, block.z - block.depth / 2
    if block.height > _TABLE_METRES:
        count = max(2, round(block.width / 0.45))
        step = block.width / count
        for index in range(count):
            left, right = x0 + (index + 0.06) * step, x0 + (index + 0.94) * step
            for low, high in ((0.05, 0.45), (0.48, 0.96)):
                bottom, top = low * block.height, high * block.height
                door = ((left, bottom), (right, bottom), (right, top), (left, top))
                yield camera.project(np.array([(x, y, z0) for x, y in door])), 0.72
        return
    if camera.height_metres < block.height:
        return
    y, depth, width = block.height, block.depth, block.width
    for left, right, near, far, shade in (
        (0.04, 0.22, 0.15, 0.85, 1.5),
        (0.4, 0.97, 0.05, 1, 0.85),
    ):
        corners = ((left, near), (right, near), (right, far), (left, far))
        yield (
            camera.project(np.array([(x0 + u * width, y, z0 + v * depth) for u, v in corners])),
            shade,
        )
