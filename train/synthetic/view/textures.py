"""Paints noise and patterns of walls and floors: bricks, boards, tiles, wallpaper, grass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.view.drawing import Colour

__all__ = ["FLOORS", "GROUNDS", "WALLS", "ImageArray", "noise", "textured"]

ImageArray = NDArray[np.float32]
_Pattern = Callable[[np.random.Generator, ImageArray, float], None]


def textured(
    rng: np.random.Generator,
    size: tuple[int, int],
    colour: Colour,
    pixels_per_metre: float,
    patterns: Sequence[str],
) -> ImageArray:
    """Paint a surface with one of these patterns: `H W C` float32, about 0 to 255.

    Args:
        size: rows and columns.
        patterns: names from `WALLS`, `FLOORS` or `GROUNDS`, drawn with equal probability.
    """
    image = np.empty((*size, 3), np.float32)
    image[:] = colour
    _PATTERNS[str(rng.choice(patterns))](rng, image, pixels_per_metre)
    strength = float(rng.uniform(0.02, 0.09))
    image *= 1.0 + noise(rng, size, strength)[..., None]
    return image


def noise(rng: np.random.Generator, size: tuple[int, int], strength: float) -> ImageArray:
    """Draw noise at three scales, `[rows, columns]` float32 with this standard deviation."""
    rows, columns = size
    total = np.zeros(size, np.float32)
    for cell, weight in ((96, 0.8), (24, 0.5), (5, 0.35)):
        coarse = rng.normal(0, strength * weight, (rows // cell + 2, columns // cell + 2))
        total += cv2.resize(
            coarse.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
        )
    return total


def _plain(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    """Leave the surface in one colour, with a darker lower part now and then."""
    if rng.random() < 0.3:
        image[-int(rng.uniform(0.7, 1.3) * scale) :] *= float(rng.uniform(0.6, 0.9))


def _cells(
    rng: np.random.Generator,
    image: ImageArray,
    cell: tuple[float, float],
    *,
    spread: float,
    joint: float,
    offset: float,
) -> None:
    """Shade cells of this height and width in pixels, with dark or light joints between them.

    Args:
        offset: shift of each next row, as a fraction of the width.
    """
    rows, columns = image.shape[:2]
    y = np.arange(rows, dtype=np.float32) / max(cell[0], 2.0)
    x = np.arange(columns, dtype=np.float32)[None] / max(cell[1], 2.0)
    x = x + (np.floor(y) * offset % 1.0)[:, None]
    shades = (1.0 + rng.normal(0, spread, 997)).astype(np.float32)
    index = np.floor(x).astype(np.int64) * 31 + np.floor(y).astype(np.int64)[:, None] * 101
    shade = shades[index % 997]
    is_joint = (x % 1.0 < 1.3 / max(cell[1], 2.0)) | (y % 1.0 < 1.3 / max(cell[0], 2.0))[:, None]
    image *= np.where(is_joint, joint, shade).astype(np.float32)[..., None]


def _bricks(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    row = float(rng.uniform(0.075, 0.2)) * scale
    joint = float(rng.choice([0.7, 1.25]))
    _cells(rng, image, (row, row * 2.6), spread=0.1, joint=joint, offset=0.5)


def _boards(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    long, wide = float(rng.uniform(0.8, 2.5)) * scale, float(rng.uniform(0.08, 0.22)) * scale
    cell = (long, wide) if rng.random() < 0.5 else (wide, long)
    offset = 0.37 if cell[0] < cell[1] else 0.0
    _cells(rng, image, cell, spread=0.1, joint=float(rng.uniform(0.6, 0.9)), offset=offset)


def _tiles(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    side = float(rng.uniform(0.15, 0.6)) * scale
    joint = float(rng.choice([0.75, 0.88, 1.15]))
    _cells(rng, image, (side, side), spread=float(rng.uniform(0, 0.05)), joint=joint, offset=0.0)
    if rng.random() < 0.25:
        rows, columns = (np.arange(size) // max(side, 2.0) for size in image.shape[:2])
        odd = (rows[:, None] + columns[None]) % 2
        image *= (1.0 - float(rng.uniform(0.1, 0.5)) * odd).astype(np.float32)[..., None]


def _wallpaper(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    period = float(rng.uniform(0.06, 0.4)) * scale
    x, y = (np.sin(2 * np.pi * np.arange(size) / period) for size in (image.shape[1::-1]))
    wave = x[None] * y[:, None] if rng.random() < 0.5 else np.broadcast_to(x, image.shape[:2])
    strength = float(rng.uniform(0.03, 0.14))
    tint = rng.uniform(0.3, 1.0, 3)
    image *= (1.0 + strength * np.sign(wave)[..., None] * tint).astype(np.float32)


def _carpet(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    rows, columns = image.shape[:2]
    width, height = (int(value * scale) for value in rng.uniform(1.5, 3.5, 2))
    left, top = (int(rng.integers(0, max(1, size))) for size in (columns - width, rows - height))
    rug = image[top : top + height, left : left + width]
    rug[:] = rng.uniform(30, 220, 3)
    border = max(1, int(0.15 * scale))
    rug[border:-border, border:-border] *= float(rng.uniform(0.6, 1.4))
    rug *= 1.0 + noise(rng, (rug.shape[0], rug.shape[1]), 0.12)[..., None]


def _boards_with_carpet(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    _boards(rng, image, scale)
    _carpet(rng, image, scale)


def _grass(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    image[:] = np.array([85, 110, 55]) * rng.uniform(0.6, 1.4) + rng.normal(0, 12, 3)
    image *= 1.0 + noise(rng, image.shape[:2], 0.22)[..., None]


def _asphalt(rng: np.random.Generator, image: ImageArray, scale: float) -> None:
    image[:] = rng.uniform(60, 170) + rng.normal(0, 5, 3)
    image *= 1.0 + noise(rng, image.shape[:2], 0.1)[..., None]
    if rng.random() < 0.4:  # a painted line or a kerb
        row = int(rng.integers(0, image.shape[0]))
        image[row : row + max(2, int(0.12 * scale))] *= float(rng.uniform(1.2, 1.7))


_PATTERNS: dict[str, _Pattern] = {
    "plain": _plain,
    "bricks": _bricks,
    "boards": _boards,
    "tiles": _tiles,
    "wallpaper": _wallpaper,
    "carpet": _carpet,
    "boards with carpet": _boards_with_carpet,
    "grass": _grass,
    "asphalt": _asphalt,
}
# Names that are listed more often are drawn more often.
WALLS = ("plain", "plain", "plain", "wallpaper", "wallpaper", "bricks", "boards", "tiles")
FLOORS = ("plain", "boards", "boards", "boards with carpet", "carpet", "tiles", "tiles")
GROUNDS = ("grass", "grass", "asphalt", "asphalt", "tiles")
