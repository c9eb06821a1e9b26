"""Paths of a hand in the plane of the frame.

A path maps progress `u` in [0, 1] to a point (x, y), with x to the right and y down. Shapes have
a half-width of about 1. People move by minimum jerk from one corner to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from train.synthetic.motions.body import FloatArray

__all__ = [
    "Path",
    "circle",
    "cross",
    "line_and_back",
    "minimum_jerk",
    "polygon",
    "polyline",
    "swinging",
    "tilted",
    "tremor",
    "wandering",
]

Path: TypeAlias = Callable[[float], FloatArray]


def minimum_jerk(u: float) -> float:
    """Return the progress of a movement from rest to rest, for u limited to [0, 1]."""
    u = min(max(u, 0.0), 1.0)
    return u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)


def polyline(corners: Sequence[Sequence[float]], pause: float = 0.0) -> Path:
    """Move from corner to corner, at rest in each.

    Args:
        corners: points (x, y), at least two.
        pause: fraction of the time of each edge that the hand rests in its corner.
    """
    points = np.array(corners, float)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1) ** 0.6
    ends = np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum()])

    def at(u: float) -> FloatArray:
        edge = int(np.clip(np.searchsorted(ends, u, side="right") - 1, 0, len(lengths) - 1))
        part = (u - ends[edge]) / (ends[edge + 1] - ends[edge])
        part = minimum_jerk((part - pause / 2) / (1 - pause))
        point: FloatArray = points[edge] + (points[edge + 1] - points[edge]) * part
        return point

    return at


def polygon(rng: np.random.Generator, corners: Sequence[Sequence[float]]) -> Path:
    """Draw a closed shape from a random corner, in a random direction."""
    points = [list(corner + rng.normal(0, 0.06, 2)) for corner in np.array(corners, float)]
    first = int(rng.integers(len(points)))
    points = points[first:] + points[:first]
    if rng.random() < 0.5:
        points = [points[0], *points[:0:-1]]
    end = list(np.array(points[0]) + rng.normal(0, 0.06, 2))
    return polyline([*points, end], pause=float(rng.uniform(0, 0.2)))


def circle(rng: np.random.Generator) -> Path:
    """Draw a circle clockwise, once or twice, from a random point."""
    start = float(rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else -np.pi / 2)
    turns = float(rng.choice([1, 1, 2]) + rng.uniform(-0.05, 0.2))
    evenness = float(rng.uniform(0.3, 1.0))
    squeeze = float(rng.uniform(0.75, 1.0))

    def at(u: float) -> FloatArray:
        part = evenness * u + (1 - evenness) * minimum_jerk(u)
        angle = start + 2 * np.pi * turns * part
        return np.array([np.cos(angle), squeeze * np.sin(angle)])

    return at


def cross(rng: np.random.Generator) -> Path:
    """Draw two strokes that cross, with a movement between them."""
    strokes = [[(-1, -1), (1, 1)], [(1, -1), (-1, 1)]]
    strokes = [stroke if rng.random() < 0.7 else stroke[::-1] for stroke in strokes]
    if rng.random() < 0.5:
        strokes.reverse()
    points = np.array([*strokes[0], *strokes[1]], float) * 0.9
    return polyline((points + rng.normal(0, 0.06, (4, 2))).tolist())


def line_and_back(rng: np.random.Generator) -> Path:
    """Draw a line there and back, once or twice."""
    side = float(rng.choice([-1, 1]))
    ends = [(side, 0.0), (-side, 0.0)]
    return polyline([*(ends * int(rng.choice([1, 2]))), ends[0]], pause=float(rng.uniform(0, 0.2)))


def swinging(rng: np.random.Generator) -> Path:
    """Swing from side to side, three to five times; the swings start and end small."""
    swings = float(rng.integers(3, 6))
    side = float(rng.choice([-1, 1]))
    rise = float(rng.uniform(-0.15, 0.15))

    def at(u: float) -> FloatArray:
        strength = min(1.0, 6 * u, 6 * (1 - u))
        x = side * strength * np.sin(2 * np.pi * swings * u)
        return np.array([x, rise * x * x])

    return at


def wandering(rng: np.random.Generator) -> Path:
    """Move smoothly, without a shape."""
    rates = rng.uniform(0.2, 0.9, (3, 2))
    phases = rng.uniform(0, 2 * np.pi, (3, 2))
    weights = rng.uniform(0.1, 0.6, (3, 2))
    return lambda u: (weights * np.sin(phases + 2 * np.pi * rates * u)).sum(axis=0)


def tilted(rng: np.random.Generator, path: Path, degrees: float = 25.0) -> Path:
    """Turn the path by a random angle and stretch its sides by random factors."""
    angle = np.radians(float(np.clip(rng.normal(0, degrees / 2), -degrees, degrees)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(rng.uniform(0.8, 1.15, 2))
    return lambda u: matrix @ path(u)


def tremor(rng: np.random.Generator, strength: float) -> Path:
    """Return small, fast, irregular movement as a function of time in seconds."""
    rates = rng.uniform(0.3, 6.0, (4, 2))
    phases = rng.uniform(0, 2 * np.pi, (4, 2))
    weights = rng.uniform(0.2, 1.0, (4, 2)) * strength / rates**0.7
    return lambda t: (weights * np.sin(phases + 2 * np.pi * rates * t)).sum(axis=0)
