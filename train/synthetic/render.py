"""Draws people and objects over the background image of their room."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from train.synthetic import body as bodies
from train.synthetic.body import Body, FloatArray
from train.synthetic.camera import Camera
from train.synthetic.drawing import Colour, Frame, draw_disc, draw_line, draw_polygon, shaded
from train.synthetic.people import Person
from train.synthetic.room import Room
from train.synthetic.room_painting import opening_pixels

__all__ = ["render"]

_LIMB_WIDTH = {"thigh": 0.085, "shin": 0.06, "shoe": 0.05, "sleeve": 0.055, "forearm": 0.045}


def render(
    background: Frame,
    room: Room,
    camera: Camera,
    people: Sequence[Person],
    on_floor: Sequence[tuple[float, float]] = (),
) -> Frame:
    """Draw objects, then people from far to near, on a copy of the background; return the frame.

    Args:
        on_floor: positions (x, z) in metres of objects on the floor.
    """
    frame = background.copy()
    for x, z in on_floor:
        pixel = camera.project_points((x, 0.09, z))[0]
        _draw_object(frame, pixel, camera.scale(z), room.object_colour)
    for person in sorted(people, key=lambda person: -person.figure.z):
        if person.figure.z > room.wall_z:
            _draw_behind_wall(frame, room, camera, person)
        else:
            _draw_person(frame, camera, person, room.object_colour)
    return frame


def _draw_behind_wall(frame: Frame, room: Room, camera: Camera, person: Person) -> None:
    layer = frame.copy()
    _draw_person(layer, camera, person, room.object_colour)
    for opening in room.openings:
        left, top, right, bottom = opening_pixels(opening, room, camera)
        frame[top:bottom, left:right] = layer[top:bottom, left:right]


def _draw_person(frame: Frame, camera: Camera, person: Person, object_colour: Colour) -> None:
    figure = person.figure
    body = person.body
    joints = bodies.joint_positions(figure.angles, body)
    points = bodies.world_positions(joints, figure.x, figure.z, figure.yaw, lift=figure.lift)
    pixels = camera.project(points)
    metre = camera.scale(figure.z)
    _draw_shadow(frame, camera, points, metre)
    unit = metre * body.height_metres * body.girth
    parts = _parts(frame, pixels, points, unit, body)
    for _, draw in sorted(parts, key=lambda part: -part[0]):
        draw()
    if figure.carried is not None:
        _draw_object(frame, pixels[bodies.HANDS[figure.carried]], metre, object_colour)


def _parts(
    frame: Frame, pixels: FloatArray, points: FloatArray, unit: float, body: Body
) -> Iterator[tuple[float, Callable[[], None]]]:
    """Yield the depth of every body part, in metres, and a function that draws the part.

    Widths are fractions of `unit`, a length in pixels.
    """
    for start, end, part in bodies.LIMBS:
        is_left = start in (bodies.HIPS[0], bodies.SHOULDERS[0])
        colour = shaded(body.colours[part], 0.82 if is_left else 1.0)
        width = _LIMB_WIDTH[part] * unit
        depth = (points[start, 2] + points[end, 2]) / 2
        yield depth, functools.partial(draw_line, frame, pixels[start], pixels[end], colour, width)
    for hand in bodies.HANDS:
        skin = body.colours["skin"]
        depth = points[hand, 2] - 0.01
        yield depth, functools.partial(draw_disc, frame, pixels[hand], 0.028 * unit, skin)
    yield points[bodies.PELVIS, 2], functools.partial(_draw_trunk, frame, pixels, unit, body)
    yield points[bodies.HEAD, 2] - 0.02, functools.partial(_draw_head, frame, pixels, unit, body)


def _draw_trunk(frame: Frame, pixels: FloatArray, unit: float, body: Body) -> None:
    shirt = body.colours["shirt"]
    draw_line(frame, pixels[bodies.NECK], pixels[bodies.HEAD], body.colours["skin"], 0.05 * unit)
    corners = pixels[[bodies.SHOULDERS[0], bodies.SHOULDERS[1], bodies.HIPS[1], bodies.HIPS[0]]]
    draw_polygon(frame, corners, shirt)
    for start, end, width in (
        (bodies.SHOULDERS[0], bodies.SHOULDERS[1], 0.075),
        (bodies.HIPS[0], bodies.HIPS[1], 0.1),
        (bodies.NECK, bodies.PELVIS, 0.15),
    ):
        draw_line(frame, pixels[start], pixels[end], shirt, width * unit)
    if body.coat:
        for hip in bodies.HIPS:
            knee = pixels[hip + 2]
            middle = (pixels[hip] + knee) / 2
            draw_line(frame, pixels[hip], middle, shaded(shirt, 0.9), 0.11 * unit)


def _draw_head(frame: Frame, pixels: FloatArray, unit: float, body: Body) -> None:
    centre = pixels[bodies.HEAD]
    upward = centre - pixels[bodies.NECK]
    upward = upward / max(float(np.hypot(*upward)), 1e-6)
    draw_disc(frame, centre + upward * 0.018 * unit, 0.062 * unit, body.colours["hair"])
    draw_disc(frame, centre - upward * 0.008 * unit, 0.052 * unit, body.colours["skin"])
    if body.hat:
        draw_disc(frame, centre + upward * 0.045 * unit, 0.055 * unit, body.colours["shoe"])


def _draw_object(frame: Frame, pixel: FloatArray, metre: float, colour: Colour) -> None:
    half = 0.11 * metre
    corners = pixel + half * np.array([[-1, -0.8], [1, -0.8], [1, 0.8], [-1, 0.8]])
    lid = pixel + (corners - pixel) * np.array([1.0, 0.25])
    draw_polygon(frame, corners, colour)
    draw_polygon(frame, lid, shaded(colour, 1.3))


def _draw_shadow(frame: Frame, camera: Camera, points: FloatArray, metre: float) -> None:
    ground = points.copy()
    ground[:, 1] = 0.0
    pixels = camera.project(ground)
    margin = 0.08 * metre
    left, top = (pixels.min(axis=0) - margin).clip(0, (camera.width, camera.height)).astype(int)
    right, bottom = (pixels.max(axis=0) + margin).clip(0, (camera.width, camera.height)).astype(int)
    if right - left < 2 or bottom - top < 2:
        return
    patch = frame[top:bottom, left:right]
    mask = np.zeros(patch.shape[:2], np.uint8)
    half_size = (int(right - left) // 2, int(bottom - top) // 2)
    cv2.ellipse(mask, half_size, half_size, 0, 0, 360, 255, -1)
    patch[mask > 0] = (patch[mask > 0] * 0.72).astype(np.uint8)
