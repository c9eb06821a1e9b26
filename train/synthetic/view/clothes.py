"""What a body wears and how it is drawn, beside its colours: pattern, skirt, hair, outline."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import numpy as np

from train.synthetic.motions.body import Body
from train.synthetic.view.drawing import Colour, shaded

__all__ = ["Clothes", "clothes_of"]

_HAIR = ((25, 20, 18), (30, 26, 24), (60, 42, 30), (90, 65, 42), (165, 130, 85), (170, 165, 160))


@dataclasses.dataclass(frozen=True)
class Clothes:
    """Details of one person's look.

    `volume` is how much darker the edges of limbs are than their middle, from 0 to 1.
    `shirt_length` is where the shirt ends: 0 at the waist, 1 at the hips.
    """

    pattern: Literal["plain", "stripes", "block"]
    pattern_shade: float
    skirt: bool
    hair: Colour
    long_hair: bool
    bald: bool
    outline: bool
    volume: float
    shirt_length: float
    limb_girth: float
    head_size: float


def clothes_of(body: Body) -> Clothes:
    """Return the clothes of a body; the same body always wears the same."""
    return _drawn(int(body.height_metres * 1e9) % 2**32, int(body.girth * 1e9) % 2**32)


@functools.lru_cache(maxsize=256)
def _drawn(*seed: int) -> Clothes:
    rng = np.random.default_rng(seed)
    pattern: tuple[Literal["plain", "stripes", "block"], ...] = ("plain", "stripes", "block")
    return Clothes(
        pattern=pattern[int(rng.choice(3, p=[0.6, 0.2, 0.2]))],
        pattern_shade=float(rng.choice([0.5, 0.7, 1.4, 1.9])),
        skirt=bool(rng.random() < 0.15),
        hair=shaded(_HAIR[int(rng.integers(len(_HAIR)))], float(rng.uniform(0.6, 1.3))),
        long_hair=bool(rng.random() < 0.35),
        bald=bool(rng.random() < 0.08),
        outline=bool(rng.random() < 0.15),
        volume=float(rng.uniform(0.1, 0.45)),
        shirt_length=float(rng.uniform(0.3, 1.0)),
        limb_girth=float(rng.uniform(0.85, 1.3)),
        head_size=float(rng.uniform(0.92, 1.1)),
    )
