"""The room and the camera: a pinhole projection, a painted background, people and things drawn into
it.

World axes in metres: x right, y up, z away from the camera; the floor is y = 0. Pictures are RGB
uint8 `H W C`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic import body as bodies
from train.synthetic.actions import Figure, Place
from train.synthetic.body import Body, FloatArray

__all__ = [
    "Camera",
    "Opening",
    "Person",
    "Room",
    "draw_room",
    "random_camera",
    "random_room",
    "render",
]

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
_SUBPIXEL_BITS = 4


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera `height_metres` above the floor, tilted down by `tilt` radians, panned by
    `pan`.
    """

    width: int
    height: int
    focal_pixels: float
    height_metres: float
    tilt: float
    pan: float

    def project(self, points: FloatArray) -> FloatArray:
        """World points `[N, 3]` to pixel columns and rows `[N, 2]`; nothing may lie behind the
        camera.
        """
        x = points[:, 0]
        y = points[:, 1] - self.height_metres
        z = points[:, 2]
        x, z = (
            x * np.cos(self.pan) - z * np.sin(self.pan),
            x * np.sin(self.pan) + z * np.cos(self.pan),
        )
        y, z = (
            y * np.cos(self.tilt) + z * np.sin(self.tilt),
            z * np.cos(self.tilt) - y * np.sin(self.tilt),
        )
        z = np.maximum(z, 0.05)
        columns = self.width / 2 + self.focal_pixels * x / z
        rows = self.height / 2 - self.focal_pixels * y / z
        return np.stack([columns, rows], axis=1)

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal_pixels / max(z, 0.3)


@dataclasses.dataclass(frozen=True)
class Opening:
    """A hole in the back wall (door or window): people behind the wall show only through it."""

    x0: float
    x1: float
    y0: float
    y1: float


@dataclasses.dataclass(frozen=True)
class Room:
    """What stands still: openings, colours, furniture. `chair_x` is where sitting happens, if a
    chair is there.
    """

    wall_z: float
    openings: tuple[Opening, ...]
    wall: Colour
    floor: Colour
    chair: tuple[float, float, Colour] | None
    things: tuple[tuple[float, float, float, float, float, Colour], ...]
    object_colour: Colour
    texture_seed: int


@dataclasses.dataclass(frozen=True)
class Person:
    """A figure with its body, ready to draw."""

    figure: Figure
    body: Body


def random_camera(rng: np.random.Generator, width: int, height: int, z: float) -> Camera:
    """A camera on a wall or tripod, aimed at people at distance z, who fill about two thirds of
    the picture's height.
    """
    # Narrow pictures look from farther away, so that the whole room stays in view.
    share = rng.uniform(0.52, 0.75) * min(1.0, (width / height) / (16 / 9))
    height_metres = float(rng.uniform(1.2, 2.6))
    return Camera(
        width,
        height,
        focal_pixels=float(share * height * z / 1.7),
        height_metres=height_metres,
        tilt=float(np.arctan2(height_metres - 0.95, z)),
        pan=float(rng.normal(0, 0.02)),
    )


def random_room(
    rng: np.random.Generator, place: Place, *, chair_at: tuple[float, float] | None, door: bool
) -> Room:
    """Furnish a room around `place`."""
    openings = []
    if door:
        half = rng.uniform(0.42, 0.55)
        openings.append(
            Opening(place.door_x - half, place.door_x + half, 0.0, float(rng.uniform(1.95, 2.2)))
        )
    if rng.random() < 0.4:
        x0 = place.door_x + float(rng.choice([-1, 1])) * rng.uniform(1.2, 2.0)
        openings.append(Opening(x0, x0 + float(rng.uniform(0.7, 1.4)), 0.95, 2.05))
    things = tuple(_random_thing(rng, place.wall_z) for _ in range(int(rng.integers(0, 6))))
    wall = rng.uniform(60, 235) + rng.normal(0, 18, 3)
    floor = rng.uniform(40, 190) + rng.normal(0, 18, 3)
    chair = None if chair_at is None else (*chair_at, _colour(rng.uniform(20, 200, 3)))
    return Room(
        place.wall_z,
        tuple(openings),
        _colour(wall),
        _colour(floor),
        chair,
        things,
        _colour(rng.uniform(10, 245, 3)),
        int(rng.integers(2**31)),
    )


def draw_room(room: Room, camera: Camera) -> Picture:
    """Paint the still background once."""
    rng = np.random.default_rng(room.texture_seed)
    picture = np.empty((camera.height, camera.width, 3), np.uint8)
    picture[:] = room.wall
    _texture(picture, rng, strength=rng.uniform(2, 14))
    _floor(picture, room, camera, rng)
    for opening in room.openings:
        _paint_opening(picture, opening, room, camera, rng)
    for x, y, w, h, z, colour in room.things:
        _box(picture, camera, (x, y, z), (w, h), colour)
    if room.chair is not None:
        _chair(picture, camera, room.chair)
    light = np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), camera.width)[None, :, None]
    lit: Picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    return lit


def render(
    background: Picture,
    room: Room,
    camera: Camera,
    people: Sequence[Person],
    on_floor: Sequence[tuple[float, float]] = (),
) -> Picture:
    """Draw the things on the floor, then people, farthest first, over a copy of the background."""
    picture = background.copy()
    for x, z in on_floor:
        _object(
            picture,
            camera.project(np.array([[x, 0.09, z]]))[0],
            camera.scale(z),
            room.object_colour,
        )
    for person in sorted(people, key=lambda item: -item.figure.z):
        if person.figure.z > room.wall_z:
            _draw_behind_wall(picture, room, camera, person)
        else:
            _draw_person(picture, camera, person, room.object_colour)
    return picture


def _draw_behind_wall(picture: Picture, room: Room, camera: Camera, person: Person) -> None:
    layer = picture.copy()
    _draw_person(layer, camera, person, room.object_colour)
    for opening in room.openings:
        left, top, right, bottom = _opening_pixels(opening, room, camera)
        picture[top:bottom, left:right] = layer[top:bottom, left:right]


def _draw_person(picture: Picture, camera: Camera, person: Person, object_colour: Colour) -> None:
    figure = person.figure
    body = person.body
    points = bodies.world_positions(
        bodies.joint_positions(figure.angles, body), figure.x, figure.z, figure.yaw
    )
    pixels = camera.project(points)
    metre = camera.scale(figure.z)
    _shadow(picture, camera, points, metre)
    unit = metre * body.height_metres * body.girth
    for _, draw in sorted(_parts(picture, pixels, points, unit, body), key=lambda part: -part[0]):
        draw()
    if figure.carried is not None:
        _object(picture, pixels[bodies.HANDS[figure.carried]], metre, object_colour)


def _parts(
    picture: Picture, pixels: FloatArray, points: FloatArray, unit: float, body: Body
) -> Iterator[tuple[float, Callable[[], None]]]:
    """(depth, drawing) for every part of the body, so that the nearest is drawn last."""
    width = {"thigh": 0.085, "shin": 0.06, "shoe": 0.05, "sleeve": 0.055, "forearm": 0.045}
    for start, end, part in bodies.LIMBS:
        depth = (points[start, 2] + points[end, 2]) / 2
        colour = _shade(
            body.colours[part], 0.82 if start in (bodies.HIPS[0], bodies.SHOULDERS[0]) else 1.0
        )
        yield (
            depth,
            functools.partial(
                _line, picture, pixels[start], pixels[end], colour, width[part] * unit
            ),
        )
    for hand in bodies.HANDS:
        yield (
            points[hand, 2] - 0.01,
            functools.partial(_disc, picture, pixels[hand], 0.028 * unit, body.colours["skin"]),
        )
    yield points[bodies.PELVIS, 2], functools.partial(_trunk, picture, pixels, unit, body)
    yield points[bodies.HEAD, 2] - 0.02, functools.partial(_head, picture, pixels, unit, body)


def _trunk(picture: Picture, pixels: FloatArray, unit: float, body: Body) -> None:
    shirt = body.colours["shirt"]
    _line(picture, pixels[bodies.NECK], pixels[bodies.HEAD], body.colours["skin"], 0.05 * unit)
    corners = pixels[[bodies.SHOULDERS[0], bodies.SHOULDERS[1], bodies.HIPS[1], bodies.HIPS[0]]]
    _polygon(picture, corners, shirt)
    for start, end, width in (
        (bodies.SHOULDERS[0], bodies.SHOULDERS[1], 0.075),
        (bodies.HIPS[0], bodies.HIPS[1], 0.1),
        (bodies.NECK, bodies.PELVIS, 0.15),
    ):
        _line(picture, pixels[start], pixels[end], shirt, width * unit)
    if body.coat:
        for hip in bodies.HIPS:
            _line(
                picture,
                pixels[hip],
                (pixels[hip] + pixels[hip + 2]) / 2,
                _shade(shirt, 0.9),
                0.11 * unit,
            )


def _head(picture: Picture, pixels: FloatArray, unit: float, body: Body) -> None:
    centre = pixels[bodies.HEAD]
    upward = centre - pixels[bodies.NECK]
    upward = upward / max(float(np.hypot(*upward)), 1e-6)
    _disc(picture, centre + upward * 0.018 * unit, 0.062 * unit, body.colours["hair"])
    _disc(picture, centre - upward * 0.008 * unit, 0.052 * unit, body.colours["skin"])
    if body.hat:
        _disc(picture, centre + upward * 0.045 * unit, 0.055 * unit, body.colours["shoe"])


def _object(picture: Picture, pixel: FloatArray, metre: float, colour: Colour) -> None:
    half = 0.11 * metre
    corners = pixel + half * np.array([[-1, -0.8], [1, -0.8], [1, 0.8], [-1, 0.8]])
    _polygon(picture, corners, colour)
    _polygon(picture, pixel + (corners - pixel) * np.array([1.0, 0.25]), _shade(colour, 1.3))


def _shadow(picture: Picture, camera: Camera, points: FloatArray, metre: float) -> None:
    ground = points.copy()
    ground[:, 1] = 0.0
    pixels = camera.project(ground)
    (left, top), (right, bottom) = (
        pixels.min(axis=0) - 0.08 * metre,
        pixels.max(axis=0) + 0.08 * metre,
    )
    left = int(np.clip(left, 0, camera.width))
    right = int(np.clip(right, 0, camera.width))
    top = int(np.clip(top, 0, camera.height))
    bottom = int(np.clip(bottom, 0, camera.height))
    if right - left < 2 or bottom - top < 2:
        return
    patch = picture[top:bottom, left:right]
    mask = np.zeros(patch.shape[:2], np.uint8)
    centre = ((right - left) // 2, (bottom - top) // 2)
    axes = ((right - left) // 2, (bottom - top) // 2)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
    patch[mask > 0] = (patch[mask > 0] * 0.72).astype(np.uint8)


def _floor(picture: Picture, room: Room, camera: Camera, rng: np.random.Generator) -> None:
    near = 0.6
    wide = 9.0
    corners = np.array(
        [[-wide, 0, near], [wide, 0, near], [wide, 0, room.wall_z], [-wide, 0, room.wall_z]]
    )
    polygon = camera.project(corners)
    polygon[:2, 1] = camera.height + 10
    _polygon(picture, polygon, room.floor)
    if rng.random() < 0.7:
        spacing = rng.uniform(0.3, 1.0)
        colour = _shade(room.floor, float(rng.choice([0.85, 1.12])))
        for x in np.arange(-wide, wide, spacing):
            a, b = camera.project(np.array([[x, 0, near], [x, 0, room.wall_z]]))
            _line(picture, a, b, colour, 1)
        for z in np.arange(near, room.wall_z, spacing * float(rng.choice([1.0, 3.0]))):
            a, b = camera.project(np.array([[-wide, 0, z], [wide, 0, z]]))
            _line(picture, a, b, colour, 1)


def _paint_opening(
    picture: Picture, opening: Opening, room: Room, camera: Camera, rng: np.random.Generator
) -> None:
    left, top, right, bottom = _opening_pixels(opening, room, camera)
    if right <= left or bottom <= top:
        return
    inside = _colour(rng.uniform(15, 220) + rng.normal(0, 20, 3))
    picture[top:bottom, left:right] = inside
    floor_row = int(camera.project(np.array([[0.0, 0.0, room.wall_z + 1.5]]))[0, 1])
    picture[max(top, min(floor_row, bottom)) : bottom, left:right] = _shade(inside, 0.7)
    frame = _colour(rng.uniform(20, 240, 3))
    thickness = max(1, int(0.05 * camera.scale(room.wall_z)))
    cv2.rectangle(picture, (left - 1, top - 1), (right, bottom), frame, thickness)


def _opening_pixels(opening: Opening, room: Room, camera: Camera) -> tuple[int, int, int, int]:
    corners = np.array(
        [[opening.x0, opening.y1, room.wall_z], [opening.x1, opening.y0, room.wall_z]]
    )
    (left, top), (right, bottom) = camera.project(corners)
    left, right = (int(np.clip(value, 0, camera.width)) for value in (left, right))
    top, bottom = (int(np.clip(value, 0, camera.height)) for value in (top, bottom))
    return left, top, right, bottom


def _chair(picture: Picture, camera: Camera, chair: tuple[float, float, Colour]) -> None:
    x, z, colour = chair
    seat = 0.43
    half = 0.24
    for leg in (-half, half):
        for depth in (z + 0.12, z + 0.42):
            a, b = camera.project(np.array([[x + leg, 0, depth], [x + leg, seat, depth]]))
            _line(picture, a, b, _shade(colour, 0.7), 0.04 * camera.scale(depth))
    back = np.array(
        [
            [x - half, seat, z + 0.45],
            [x + half, seat, z + 0.45],
            [x + half, 0.9, z + 0.47],
            [x - half, 0.9, z + 0.47],
        ]
    )
    top = np.array(
        [
            [x - half, seat, z + 0.1],
            [x + half, seat, z + 0.1],
            [x + half, seat, z + 0.45],
            [x - half, seat, z + 0.45],
        ]
    )
    _polygon(picture, camera.project(back), _shade(colour, 0.85))
    _polygon(picture, camera.project(top), colour)


def _box(
    picture: Picture,
    camera: Camera,
    corner: tuple[float, float, float],
    size: tuple[float, float],
    colour: Colour,
) -> None:
    (x, y, z), (w, h) = corner, size
    front = np.array([[x, y, z], [x + w, y, z], [x + w, y + h, z], [x, y + h, z]])
    _polygon(picture, camera.project(front), colour)
    if y == 0.0:
        lid = np.array([[x, h, z], [x + w, h, z], [x + w, h, z + 0.35], [x, h, z + 0.35]])
        _polygon(picture, camera.project(lid), _shade(colour, 1.2))


def _random_thing(
    rng: np.random.Generator, wall_z: float
) -> tuple[float, float, float, float, float, Colour]:
    """A picture on the wall or a box on the floor in front of it: x, y, width, height, z,
    colour.
    """
    colour = _colour(rng.uniform(15, 245, 3))
    x = rng.uniform(-3.2, 3.2)
    w = rng.uniform(0.2, 0.9)
    h = rng.uniform(0.2, 0.9)
    if rng.random() < 0.5:
        return float(x), float(rng.uniform(1.1, 1.7)), float(w), float(h), wall_z, colour
    return float(x), 0.0, float(w), float(h), float(wall_z - 0.36), colour


def _texture(picture: Picture, rng: np.random.Generator, strength: float) -> None:
    coarse = rng.normal(
        0, strength, (int(rng.integers(4, 24)), int(rng.integers(4, 40)), 1)
    ).astype(np.float32)
    smooth = cv2.resize(coarse, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC)
    np.clip(picture + smooth[..., None], 0, 255, out=picture, casting="unsafe")


def _fixed(point: FloatArray) -> tuple[int, int]:
    scaled = np.clip(point, -4000, 8000) * (1 << _SUBPIXEL_BITS)
    return int(scaled[0]), int(scaled[1])


def _line(picture: Picture, a: FloatArray, b: FloatArray, colour: Colour, width: float) -> None:
    cv2.line(
        picture, _fixed(a), _fixed(b), colour, max(1, round(width)), cv2.LINE_AA, _SUBPIXEL_BITS
    )


def _disc(picture: Picture, centre: FloatArray, radius: float, colour: Colour) -> None:
    size = max(1, int(radius * (1 << _SUBPIXEL_BITS)))
    cv2.circle(picture, _fixed(centre), size, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _polygon(picture: Picture, corners: FloatArray, colour: Colour) -> None:
    fixed = np.array([_fixed(corner) for corner in corners], np.int32)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def _shade(colour: Colour, factor: float) -> Colour:
    return _colour(np.array(colour) * factor)


def _colour(values: FloatArray) -> Colour:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue
