"""Arms with sleeves and watches, and the things that can stand in for a hand."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import FloatArray
from train.synthetic.view.drawing import (
    Colour,
    Frame,
    colour_of,
    draw_disc,
    draw_line,
    draw_polygon,
    shaded,
)

__all__ = ["ArmLook", "Tool", "bent_elbow", "draw_arm", "draw_tool", "random_arm", "random_tool"]

_UPPER_ARM = 2.3  # in units of a palm's length


@dataclasses.dataclass(frozen=True)
class ArmLook:
    """The look of an arm; `bare` is the uncovered fraction of the forearm, from the wrist."""

    skin: Colour
    sleeve: Colour
    bare: float
    watch: Colour | None
    width: float


@dataclasses.dataclass(frozen=True)
class Tool:
    """A thing that moves in place of a hand; `size` is in units of the frame's height."""

    kind: str
    colour: Colour
    size: float
    angle: float


def random_arm(rng: np.random.Generator, skin: Colour, sleeve: Colour) -> ArmLook:
    """Draw the look of an arm with this skin and sleeve."""
    return ArmLook(
        skin=skin,
        sleeve=sleeve,
        bare=float(rng.choice([0.02, 0.15, 0.5, 1.0])),
        watch=colour_of(rng.uniform(5, 220, 3)) if rng.random() < 0.25 else None,
        width=float(rng.uniform(0.85, 1.2)),
    )


def random_tool(rng: np.random.Generator) -> Tool:
    """Draw a ball, pen, wand or pointer."""
    kind = str(rng.choice(["ball", "pen", "wand", "pointer", "ring"]))
    size = float(rng.uniform(0.03, 0.1) if kind in ("ball", "ring") else rng.uniform(0.2, 0.5))
    colour = colour_of(rng.uniform(0, 255, 3))
    return Tool(kind, colour, size, float(rng.normal(0, 0.5)))


def bent_elbow(shoulder: FloatArray, wrist: FloatArray, unit: float, side: float) -> FloatArray:
    """Return the elbow (pixels) of a seated person: below the shoulder, drawn to the wrist."""
    hanging = shoulder + np.array([0.35 * side, 1.0]) * _UPPER_ARM * unit
    elbow: FloatArray = 0.72 * hanging + 0.28 * (wrist + np.array([0.0, 0.8 * unit]))
    return elbow


def draw_arm(
    frame: Frame,
    look: ArmLook,
    *,
    wrist: FloatArray,
    elbow: FloatArray,
    unit: float,
    shoulder: FloatArray | None = None,
) -> None:
    """Draw an upper arm where there is a shoulder, and a forearm to the wrist (pixels)."""
    thin, thick = 0.29 * unit * look.width, 0.45 * unit * look.width
    if shoulder is not None:
        _limb(frame, shoulder, elbow, 1.35 * thick, 1.15 * thick, look.sleeve)
        draw_disc(frame, elbow, 1.1 * thick, look.sleeve if look.bare < 1 else look.skin)
    shaded_skin = shaded(look.skin, 0.93)
    _limb(frame, wrist, elbow, thin, thick, shaded_skin)
    if look.bare < 1:
        cuff = wrist + (elbow - wrist) * look.bare
        wide = thin + (thick - thin) * look.bare
        _limb(frame, cuff, elbow, 1.2 * wide, 1.25 * thick, look.sleeve)
    if look.watch is not None and look.bare > 0.1:
        along = (elbow - wrist) / (np.linalg.norm(elbow - wrist) + 1e-6) * unit
        _limb(
            frame, wrist + 0.1 * along, wrist + 0.32 * along, 1.12 * thin, 1.15 * thin, look.watch
        )


def draw_tool(frame: Frame, tool: Tool, tip: FloatArray) -> None:
    """Draw the thing with its tip, or its middle, at `tip` (pixels)."""
    size = tool.size * frame.shape[0]
    edge = shaded(tool.colour, 0.6)
    if tool.kind in ("ball", "ring"):
        draw_disc(frame, tip, size, edge)
        draw_disc(frame, tip, 0.85 * size, tool.colour)
        inner = shaded(tool.colour, 0.3 if tool.kind == "ring" else 1.3)
        offset = 0.0 if tool.kind == "ring" else 0.3 * size
        draw_disc(frame, tip - offset, (0.5 if tool.kind == "ring" else 0.25) * size, inner)
        return
    end = tip + np.array([np.sin(tool.angle), np.cos(tool.angle)]) * size
    width = {"pen": 0.09, "wand": 0.06, "pointer": 0.12}[tool.kind] * size
    draw_line(frame, tip, end, edge, width + 2)
    draw_line(frame, tip, end, tool.colour, width)
    if tool.kind == "wand":
        draw_disc(frame, tip, 0.1 * size, shaded(tool.colour, 1.6))


def _limb(
    frame: Frame, start: FloatArray, end: FloatArray, first: float, second: float, colour: Colour
) -> None:
    """Draw a tapered limb; its half-widths are `first` and `second` pixels."""
    along = end - start
    across = np.array([-along[1], along[0]]) / (np.linalg.norm(along) + 1e-6)
    corners = [start - across * first, start + across * first]
    corners += [end + across * second, end - across * second]
    middle = (start + end) / 2
    rim = np.array(corners)
    draw_polygon(frame, middle + (rim - middle) * 1.03, shaded(colour, 0.7))
    draw_disc(frame, start, first, colour)
    draw_polygon(frame, rim, colour)
