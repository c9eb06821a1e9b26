"""Paints the flat surfaces of a room as images in metres: back wall, side walls, floor, sky.

What hangs on the back wall is painted on its image: doors, windows, pictures, shelves, curtains.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.view.drawing import shaded
from train.synthetic.view.room import Opening, Room
from train.synthetic.view.textures import FLOORS, GROUNDS, WALLS, ImageArray, noise, textured

__all__ = ["HALF_WIDTH_METRES", "SCALE", "Surfaces", "paint_surfaces"]

SCALE = 64.0  # pixels per metre
HALF_WIDTH_METRES = 5.0  # of the images of back wall and floor, around x = 0
_FLOOR_METRES = 8.0


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Images of the surfaces, `H W C` float32, `SCALE` pixels per metre; rows go down.

    The columns of `back` and `floor` begin at x = -`HALF_WIDTH_METRES`. The last row of `back` and
    `side` is the floor. The first row of `floor` is at the back wall. Side walls are at x =
    ±`side_metres`, and the ceiling is at `height_metres`. Beyond that there is the colour `above`.
    """

    back: ImageArray
    side: ImageArray
    floor: ImageArray
    above: ImageArray
    side_metres: float
    height_metres: float


def paint_surfaces(room: Room, rng: np.random.Generator) -> Surfaces:
    """Paint the surfaces of a room, or of a street or garden if it is outdoors."""
    height = float(rng.uniform(2.5, 7.0) if room.outdoors else rng.uniform(2.35, 3.0))
    size = (int(height * SCALE), int(2 * HALF_WIDTH_METRES * SCALE))
    patterns = ("bricks", "boards", "plain", "grass", "bricks") if room.outdoors else WALLS
    back = textured(rng, size, room.wall, SCALE, patterns)
    side = back[:, ::-1] * float(rng.uniform(0.7, 1.1))
    _decorate(back, room, rng)
    for opening in room.openings:
        _paint_opening(back, opening, rng)
    rows = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    back *= 1.0 - float(rng.uniform(0, 0.25)) * rows**4
    skirting = max(1, int(rng.uniform(0.04, 0.1) * SCALE))
    if not room.outdoors:
        back[-skirting:] *= float(rng.uniform(0.6, 1.3))
    floor_size = (int(_FLOOR_METRES * SCALE), size[1])
    floor = textured(rng, floor_size, room.floor, SCALE, GROUNDS if room.outdoors else FLOORS)
    floor[: int(0.4 * SCALE)] *= float(rng.uniform(0.7, 1.0))
    sky = np.array([150, 180, 215]) * rng.uniform(0.5, 1.15) + rng.normal(0, 15, 3)
    ceiling = np.array(room.wall) * 0.3 + rng.uniform(110, 170)
    return Surfaces(
        back=back,
        side=side,
        floor=floor,
        above=(sky if room.outdoors else ceiling).astype(np.float32),
        side_metres=1e3 if room.outdoors else float(rng.uniform(2.9, 4.8)),
        height_metres=height,
    )


def _patch(image: ImageArray, x0: float, x1: float, y0: float, y1: float) -> ImageArray:
    """Return the part of the back wall's image between these metres; it may be empty."""
    rows, columns = image.shape[:2]
    left, right = (
        int(np.clip((x + HALF_WIDTH_METRES) * SCALE, 0, columns)) for x in sorted((x0, x1))
    )
    top, bottom = (int(np.clip(rows - y * SCALE, 0, rows)) for y in (y1, y0))
    return image[top:bottom, left:right]


def _decorate(back: ImageArray, room: Room, rng: np.random.Generator) -> None:
    for thing in room.things:
        if thing.y > 0:
            _paint_picture(back, thing.x, thing.y, thing.width, thing.height, rng)
    for _ in range(int(rng.poisson(1.6))):
        x = float(rng.uniform(-3.5, 3.5))
        kind = int(rng.integers(5))
        if room.outdoors:
            _paint_window(_patch(back, x, x + 1.0, 0.9, 2.1), rng)
            _paint_leaves(back, float(rng.uniform(-4, 4)), rng, float(rng.uniform(0.8, 2.5)))
        elif kind == 0:
            _paint_shelf(back, x, rng)
        elif kind == 1:
            _paint_curtain(_patch(back, x, x + rng.uniform(0.3, 1.6), 0.05, 2.3), rng)
        elif kind == 2:
            _paint_leaves(back, x, rng, float(rng.uniform(0.4, 1.2)))
        elif kind == 3:
            width, high = (float(value) for value in rng.uniform(0.3, 1.1, 2))
            _paint_picture(back, x, float(rng.uniform(0.8, 1.4)), width, high, rng)
        else:
            _paint_radiator(_patch(back, x, x + rng.uniform(0.5, 1.4), 0.12, 0.7), rng)


def _paint_picture(
    back: ImageArray,
    x: float,
    y: float,
    width: float,
    height: float,
    rng: np.random.Generator,
) -> None:
    _patch(back, x - 0.03, x + width + 0.03, y - 0.03, y + height + 0.03)[:] = rng.uniform(10, 240)
    inside = _patch(back, x, x + width, y, y + height)
    inside[:] = rng.uniform(30, 230) + rng.normal(0, 35, 3)
    if inside.size:
        inside *= 1.0 + noise(rng, (inside.shape[0], inside.shape[1]), 0.3)[..., None]


def _paint_shelf(back: ImageArray, x: float, rng: np.random.Generator) -> None:
    """Paint boards with many small things on them, such as books."""
    width = float(rng.uniform(0.6, 1.8))
    board = np.array(rng.uniform(40, 200) + rng.normal(0, 15, 3))
    if rng.random() < 0.6:
        _patch(back, x, x + width, 0.0, 2.0)[:] = board * 0.5
    for y in np.arange(float(rng.uniform(0.1, 1.0)), 2.0, float(rng.uniform(0.28, 0.45))):
        _patch(back, x, x + width, y - 0.03, y)[:] = board
        left = x
        while left < x + width:
            wide = float(rng.choice([0.03, 0.05, 0.12]))
            top = y + float(rng.uniform(0.05, 0.27))
            if rng.random() < 0.8:
                _patch(back, left, left + wide, y, top)[:] = rng.uniform(15, 235, 3)
            left += wide + 0.01


def _paint_curtain(patch: ImageArray, rng: np.random.Generator) -> None:
    if not patch.size:
        return
    folds = np.sin(np.arange(patch.shape[1]) * rng.uniform(0.4, 1.2) + rng.uniform(0, 6))
    patch[:] = rng.uniform(30, 240, 3)
    patch *= (1.0 + 0.18 * folds).astype(np.float32)[None, :, None]


def _paint_radiator(patch: ImageArray, rng: np.random.Generator) -> None:
    patch[:] = rng.uniform(120, 240)
    patch[:, ::4] *= 0.75


def _paint_leaves(back: ImageArray, x: float, rng: np.random.Generator, metres: float) -> None:
    """Paint a plant or tree of this height: many small leaves around a middle."""
    green = np.array([60, 100, 45]) * rng.uniform(0.4, 1.5)
    for dx, dy, size, shade in rng.normal(0, 1, (70, 4)):
        left, bottom = x + 0.22 * metres * dx, 0.62 * metres + 0.17 * metres * dy
        side = (0.03 + 0.02 * abs(size)) * metres + 0.02
        leaf = _patch(back, left, left + side, bottom, bottom + side)
        leaf[:] = green * max(0.2, 1.0 + 0.3 * shade)
    _patch(back, x - 0.1 * metres, x + 0.1 * metres, 0, 0.25 * metres)[:] = rng.uniform(30, 180, 3)


def _paint_window(patch: ImageArray, rng: np.random.Generator) -> None:
    """Paint panes with an outside: sky above, something darker below; or night, or a blind."""
    if not patch.size:
        return
    rows, columns = patch.shape[:2]
    sky = np.array([200, 215, 240]) * rng.choice([0.08, 0.5, 1.0, 1.15])
    patch[:] = sky + rng.normal(0, 8, 3)
    patch[int(rows * rng.uniform(0.3, 0.9)) :] *= rng.uniform(0.3, 0.9, 3)
    if rng.random() < 0.25:
        patch[:: int(rng.integers(2, 5))] *= 0.7  # a blind
    frame = rng.uniform(60, 245)
    for column in np.linspace(0, columns - 3, int(rng.integers(2, 4))):
        patch[:, int(column) : int(column) + 3] = frame
    for row in (0, rows - 3):
        patch[row : row + 3] = frame


def _paint_opening(back: ImageArray, opening: Opening, rng: np.random.Generator) -> None:
    edge = 0.06
    border = _patch(
        back, opening.x0 - edge, opening.x1 + edge, opening.y0 - edge, opening.y1 + edge
    )
    border[:] = rng.uniform(20, 240) + rng.normal(0, 15, 3)
    inside = _patch(back, opening.x0, opening.x1, opening.y0, opening.y1)
    if opening.y0 > 0:
        _paint_window(inside, rng)
        return
    red, green, blue = (int(value) for value in rng.uniform(15, 220) + rng.normal(0, 20, 3))
    inside[:] = shaded((red, green, blue), 1.0)
    inside[int(inside.shape[0] * 0.75) :] *= 0.7
    inside[:] *= np.linspace(0.7, 1.1, max(1, inside.shape[1]), dtype=np.float32)[None, :, None]
