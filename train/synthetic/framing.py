"""Keeps people in the frame: a camera cut around two people, and a fall that ends in view."""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import Body, FloatArray
from train.synthetic.motions.encounters import Encounter
from train.synthetic.motions.motion import Motion, Place
from train.synthetic.motions.reach import world_joints
from train.synthetic.view.camera import Camera, random_camera

__all__ = ["draw_pair_place", "frame_pair", "in_view"]

_SIZES = ((640, 480), (720, 480), (640, 360), (854, 480), (480, 480), (480, 360))
_BODY_MARGIN = 0.12  # metres around the joints that a body covers
_SAMPLES = 9
_SIDE_MARGIN = 0.05  # of the frame's width
_MEAN_BODY = Body(1.7, 1.0, 0.247, {}, coat=False, hat=False)
_AROUND_SECONDS = 0.6  # the people are also in the frame this long before and after


def draw_pair_place(rng: np.random.Generator) -> Place:
    """Draw a place with room behind it, so that people can stand behind each other."""
    z = float(rng.uniform(4.5, 8.0))
    return Place(
        x=float(rng.uniform(-0.5, 0.5)),
        z=z,
        door_x=float(rng.uniform(-2.0, 2.0)),
        wall_z=z + float(rng.uniform(2.0, 6.0)),
    )


def frame_pair(
    rng: np.random.Generator, encounter: Encounter, place: Place, start: float, seconds: float
) -> Camera:
    """Draw a camera that shows both people in the action, tightly or with room around them.

    Args:
        start: time of the encounter's start in the video, in seconds.
        seconds: length of the video.
    """
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    camera = random_camera(rng, width, height, place.z)
    points = _points(encounter, start, seconds)
    fills = float(rng.uniform(0.88, 0.99) if rng.random() < 0.5 else rng.uniform(0.6, 0.88))
    for _ in range(4):
        low, high = _box(camera, points)
        camera = _turned(camera, (low + high) / 2)
        low, high = _box(camera, points)
        zoom = fills * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
        camera = dataclasses.replace(camera, focal_pixels=float(camera.focal_pixels * zoom))
    low, high = _box(camera, points)
    # The people may be off the middle, as far as they stay in the frame.
    spare = np.maximum(np.minimum(low, (width, height) - high), 0.0)
    return _turned(camera, np.array([width, height]) / 2 + spare * rng.uniform(-0.9, 0.9, 2))


def in_view(motion: Motion, camera: Camera) -> Motion:
    """Move a motion to a side until its start and end are in the frame, where both fit."""
    figures = [motion.at(0.0), motion.at(1.0)]
    points = np.concatenate([world_joints(figure, _MEAN_BODY) for figure in figures])
    columns = camera.project(points)[:, 0]
    left, right = float(columns.min()), float(columns.max())
    margin = _SIDE_MARGIN * camera.width
    if right - left > camera.width - 2 * margin:
        shift = (camera.width - left - right) / 2
    else:
        shift = max(margin - left, 0.0) + min(camera.width - margin - right, 0.0)
    return motion.moved(shift / camera.scale(figures[1].z), 0.0) if shift else motion


def _points(encounter: Encounter, start: float, seconds: float) -> FloatArray:
    """Return all joints at a few times, with points around them that a body covers."""
    first = max(-start, -_AROUND_SECONDS)
    last = min(seconds - start, encounter.seconds + _AROUND_SECONDS)
    joints = np.concatenate(
        [
            world_joints(figure, body)
            for t in np.linspace(first, last, _SAMPLES)
            for figure, body in zip(encounter.at(float(t)), encounter.bodies, strict=True)
        ]
    )
    margins = _BODY_MARGIN * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -0.5, 0]])
    return np.asarray((joints[:, None] + margins).reshape(-1, 3))


def _box(camera: Camera, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    pixels = camera.project(points)
    return pixels.min(axis=0), pixels.max(axis=0)


def _turned(camera: Camera, pixel: FloatArray) -> Camera:
    """Turn the camera so that what is at `pixel` (column, row) comes to the middle."""
    column, row = pixel - np.array([camera.width, camera.height]) / 2
    return dataclasses.replace(
        camera,
        pan=float(camera.pan + np.arctan2(column, camera.focal_pixels)),
        tilt=float(camera.tilt + np.arctan2(row, camera.focal_pixels)),
    )
