"""Turns a person into shaded polygons: tapered limbs, a trunk with volume, head and hair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.motions import body as bodies
from train.synthetic.motions.body import FloatArray
from train.synthetic.people import Person
from train.synthetic.view.camera import Camera
from train.synthetic.view.clothes import Clothes, clothes_of
from train.synthetic.view.drawing import Colour, shaded

__all__ = ["LIMB_RADII", "Part", "figure_parts", "figure_points"]

# Radii at both ends, as fractions of the body's height.
LIMB_RADII = {
    "thigh": (0.05, 0.034),
    "shin": (0.034, 0.021),
    "shoe": (0.023, 0.017),
    "sleeve": (0.031, 0.023),
    "forearm": (0.021, 0.014),
}
# Rings around the trunk: height from pelvis to neck, half of the width, half of the depth.
_RINGS = ((1.0, 0.05, 0.035), (0.9, 0.115, 0.05), (0.62, 0.1, 0.068), (0.3, 0.083, 0.062))
_HIP_RING = (-0.08, 0.095, 0.07)
_CIRCLE = np.linspace(0, 2 * np.pi, 12, endpoint=False)
_HALF = np.linspace(-np.pi / 2, np.pi / 2, 6)
_HEAD_RADIUS = 0.05


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a body: its distance from the camera in metres, and coloured polygons."""

    depth: float
    shapes: tuple[tuple[FloatArray, Colour], ...]


def figure_points(person: Person) -> FloatArray:
    """Return the joints of a person in world axes, `[17, 3]`."""
    figure = person.figure
    joints = bodies.joint_positions(figure.angles, person.body)
    return bodies.world_positions(joints, figure.x, figure.z, figure.yaw, lift=figure.lift)


def figure_parts(person: Person, camera: Camera, light: float) -> list[Part]:
    """Return the parts of a person; those with a larger depth must be drawn first.

    Args:
        light: side from which light comes, from -1 (left) to 1 (right).
    """
    points = figure_points(person)
    clothes = clothes_of(person.body)
    unit = person.body.height_metres * person.body.girth
    left, up, forward = _axes(points)
    parts = [
        *_limbs(person, camera, points, unit, clothes, light),
        *_trunk(person, camera, points, unit, clothes, light, (left, up, forward)),
        _head(person, camera, points, unit, clothes, forward),
    ]
    return [_outlined(part) for part in parts] if clothes.outline else parts


def _axes(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return unit vectors to the left of the trunk, up along it, and out of its chest."""
    left = _unit(points[bodies.SHOULDERS[0]] - points[bodies.SHOULDERS[1]])
    up = _unit(points[bodies.NECK] - points[bodies.PELVIS])
    return left, up, _cross(left, up)


def _unit(vector: FloatArray) -> FloatArray:
    unit: FloatArray = vector / max(float(np.sqrt(vector @ vector)), 1e-6)
    return unit


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.array(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )


def _limbs(
    person: Person,
    camera: Camera,
    points: FloatArray,
    unit: float,
    clothes: Clothes,
    light: float,
) -> Iterator[Part]:
    pixels = camera.project(points)
    scales = camera.scales(points) * unit * clothes.limb_girth
    depths = camera.depths(points)
    starts = [start for start, _, _ in bodies.LIMBS]
    ends = [end for _, end, _ in bodies.LIMBS]
    radii = np.array([LIMB_RADII[part] for _, _, part in bodies.LIMBS])
    radii = np.maximum(radii * np.stack([scales[starts], scales[ends]], axis=1), 0.5)
    outer = _tapered(pixels[starts], radii[:, 0], pixels[ends], radii[:, 1])
    shift = np.array([0.3 * light, -0.15])
    way = pixels[ends] - pixels[starts]
    # The lit part reaches both ends: only the sides of a limb are darker.
    way *= 0.4 / np.maximum(np.hypot(way[:, 0], way[:, 1])[:, None], 1.0)
    inner = _tapered(
        pixels[starts] + (shift - way) * radii[:, :1],
        0.6 * radii[:, 0],
        pixels[ends] + (shift + way) * radii[:, 1:],
        0.6 * radii[:, 1],
    )
    for index, (start, end, part) in enumerate(bodies.LIMBS):
        colour = person.body.colours[part]
        is_left = start in (bodies.HIPS[0], bodies.SHOULDERS[0])
        colour = shaded(colour, 0.9 if is_left else 1.0)
        shapes = [(outer[index], shaded(colour, 1 - clothes.volume)), (inner[index], colour)]
        nearer = 0.0 if part == "thigh" else 0.03
        if end in bodies.HANDS:
            shapes.append((_disc(pixels[end], 0.024 * scales[end]), person.body.colours["skin"]))
        yield Part(float(depths[start] + depths[end]) / 2 - nearer, tuple(shapes))


def _trunk(
    person: Person,
    camera: Camera,
    points: FloatArray,
    unit: float,
    clothes: Clothes,
    light: float,
    axes: tuple[FloatArray, FloatArray, FloatArray],
) -> Iterator[Part]:
    left, _, forward = axes
    pelvis, neck = points[bodies.PELVIS], points[bodies.NECK]
    rings = []
    for level, width, depth in (*_RINGS, _HIP_RING):
        middle = pelvis + level * (neck - pelvis)
        rings.append(
            middle
            + unit * width * np.cos(_CIRCLE)[:, None] * left
            + unit * depth * np.sin(_CIRCLE)[:, None] * forward
        )
    pixels = camera.project(np.concatenate(rings)).reshape(len(rings), -1, 2)
    shirt, trousers = person.body.colours["shirt"], person.body.colours["thigh"]
    dark = 1 - clothes.volume
    distance = float(camera.depths(points[[bodies.PELVIS, bodies.NECK]]).mean())
    lower = shirt if clothes.shirt_length > 0.6 or person.body.coat else trousers
    chest = _hull(pixels[:4])
    shapes = [
        (_hull(pixels[3:]), shaded(lower, dark)),
        (_hull(0.75 * pixels[3:] + 0.25 * pixels[3:].mean(axis=(0, 1))), lower),
        (chest, shaded(shirt, dark)),
        (_lit(chest, light), shirt),
        *_pattern(pixels, clothes, shirt),
    ]
    yield Part(distance, tuple(shapes))
    if clothes.skirt or person.body.coat:
        yield _skirt(person, camera, points, pixels[4], unit, clothes, distance)


def _pattern(
    rings: FloatArray, clothes: Clothes, shirt: Colour
) -> Iterator[tuple[FloatArray, Colour]]:
    """Yield stripes across the chest, or one broad band, between the rings of the trunk."""
    if clothes.pattern == "plain":
        return
    colour = shaded(shirt, clothes.pattern_shade)
    upper, lower = rings[1], rings[3]
    bands = (
        ((0.05, 0.2), (0.4, 0.55), (0.75, 0.9)) if clothes.pattern == "stripes" else ((0.1, 0.6),)
    )
    for start, end in bands:
        edges = [upper + part * (lower - upper) for part in (start, end)]
        yield _hull(np.stack(edges)), colour


def _skirt(
    person: Person,
    camera: Camera,
    points: FloatArray,
    hip_ring: FloatArray,
    unit: float,
    clothes: Clothes,
    distance: float,
) -> Part:
    """Return a skirt or the lower part of a coat, from the hips towards the knees."""
    knees = points[[hip + 2 for hip in bodies.HIPS]]
    hips = points[list(bodies.HIPS)]
    hems = hips + (0.95 if clothes.skirt else 0.6) * (knees - hips)
    radii = 0.055 * unit * camera.scales(hems)
    discs = [_disc(*hem) for hem in zip(camera.project(hems), radii, strict=True)]
    outline = _hull(np.concatenate([hip_ring, *discs]))
    colour = person.body.colours["shirt" if person.body.coat else "thigh"]
    shapes = ((outline, shaded(colour, 1 - clothes.volume)), (_lit(outline, 0.0), colour))
    return Part(distance - 0.04, shapes)


def _head(
    person: Person,
    camera: Camera,
    points: FloatArray,
    unit: float,
    clothes: Clothes,
    forward: FloatArray,
) -> Part:
    neck, head = points[bodies.NECK], points[bodies.HEAD]
    up = _unit(head - neck)
    radius = _HEAD_RADIUS * unit**0.5 * person.body.height_metres**0.5 * clothes.head_size
    face = head + 0.45 * radius * forward - 0.15 * radius * up
    spots = np.stack(
        [neck, head, head + 0.25 * radius * up, face, face - radius * up, head + up * radius]
    )
    pixels = camera.project(spots)
    size = float(camera.scales(head[None])[0]) * radius
    skin, hair = person.body.colours["skin"], clothes.hair
    hair = skin if clothes.bald else hair
    shapes = [
        (_capsule(pixels[0], 0.5 * size, pixels[1], 0.5 * size), shaded(skin, 0.75)),
        (_capsule(pixels[2], 1.08 * size, pixels[1], size), hair),
    ]
    if clothes.long_hair:
        back = camera.project((neck - 0.6 * radius * forward)[None])[0]
        shapes.append((_capsule(pixels[1], 1.05 * size, back, 0.8 * size), hair))
    view = head - np.array([camera.x_metres, camera.height_metres, camera.z_metres])
    if float(forward @ _unit(view)) < 0.35:
        shapes.append((_capsule(pixels[3], 0.82 * size, pixels[4], 0.5 * size), skin))
        shapes.append((_disc(pixels[3] - 0.1 * size, 0.6 * size), shaded(skin, 1.1)))
    if person.body.hat:
        brim = _capsule(pixels[5], 0.75 * size, pixels[2], 1.0 * size)
        shapes.append((0.85 * brim + 0.15 * pixels[5], person.body.colours["shoe"]))
    depth = float(camera.depths(head[None])[0]) - 0.02
    return Part(depth, tuple(shapes))


def _outlined(part: Part) -> Part:
    """Add a thin dark edge around the first polygon of a part."""
    outline, colour = part.shapes[0]
    middle = outline.mean(axis=0)
    away = outline - middle
    length = np.maximum(np.hypot(away[:, 0], away[:, 1])[:, None], 1e-6)
    edge = middle + away * (1 + 1.0 / length)
    return dataclasses.replace(part, shapes=((edge, shaded(colour, 0.35)), *part.shapes))


def _lit(outline: FloatArray, light: float) -> FloatArray:
    """Return a smaller copy of a polygon, shifted towards the light."""
    middle = outline.mean(axis=0)
    reach = np.ptp(outline, axis=0)
    lit: FloatArray = middle + 0.72 * (outline - middle) + np.array([0.09 * light, -0.03]) * reach
    return lit


def _hull(points: FloatArray) -> FloatArray:
    hull: NDArray[np.float32] = cv2.convexHull(points.reshape(-1, 2).astype(np.float32))
    return hull[:, 0].astype(np.float64)


def _disc(centre: FloatArray, radius: float) -> FloatArray:
    disc: FloatArray = centre + radius * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
    return disc


def _capsule(start: FloatArray, radius: float, end: FloatArray, end_radius: float) -> FloatArray:
    radii = np.array([[radius], [end_radius]])
    capsule: FloatArray = _tapered(start[None], radii[0], end[None], radii[1])[0]
    return capsule


def _tapered(
    starts: FloatArray, radii: FloatArray, ends: FloatArray, end_radii: FloatArray
) -> FloatArray:
    """Return outlines around pairs of circles, `[N, 12, 2]`; centres `[N, 2]`, radii `[N]`."""
    way = ends - starts
    angle = np.arctan2(way[:, 1], way[:, 0])[:, None]
    halves = []
    for centres, sizes, turn in ((ends, end_radii, 0.0), (starts, radii, np.pi)):
        around = angle + turn + _HALF[None]
        offsets = np.stack([np.cos(around), np.sin(around)], axis=2) * sizes[:, None, None]
        halves.append(centres[:, None] + offsets)
    return np.concatenate(halves, axis=1)
