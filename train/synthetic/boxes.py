"""The boxes of a scene's people in the frames, from the same joints that are drawn.

Boxes are in pixels of the frame. Camera shake is not included; it moves a frame by at most 2 % of
its height.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs import replaced_file
from train.synthetic.motions import body as bodies
from train.synthetic.people import Person
from train.synthetic.script import Script
from train.synthetic.view.camera import Camera
from train.synthetic.view.figures import figure_points

__all__ = ["Box", "boxes_path", "person_box", "write_boxes"]

_LIMB_METRES = 0.08  # half of the width of the widest limb
_HEAD_RADIUS = 0.08  # of the hair, from the middle of the head; a fraction of height and girth
_FRAMES_PER_SECOND = 15.0


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in pixels; it may reach beyond the frame."""

    left: float
    top: float
    right: float
    bottom: float


def person_box(person: Person, camera: Camera) -> Box:
    """Return the smallest box around a person; what hides the person is not considered."""
    points = figure_points(person)
    pixels = camera.project(points)
    radii = np.full(len(points), _LIMB_METRES)
    radii[bodies.HEAD] = _HEAD_RADIUS * person.body.height_metres * person.body.girth
    margins = (radii * camera.scales(points))[:, None]
    left, top = (pixels - margins).min(axis=0)
    right, bottom = (pixels + margins).max(axis=0)
    return Box(float(left), float(top), float(right), float(bottom))


def boxes_path(video: Path) -> Path:
    """Return the path of the file with a video's boxes."""
    return video.with_suffix(".boxes.csv")


def write_boxes(script: Script, path: Path) -> None:
    """Write the boxes of all people at 15 times a second as CSV.

    `behind_wall` is 1 for people who are seen only through the openings of the back wall.
    """
    rows: list[Sequence[object]] = [("seconds", "behind_wall", "left", "top", "right", "bottom")]
    for index in range(int(script.seconds * _FRAMES_PER_SECOND)):
        seconds = index / _FRAMES_PER_SECOND
        for person in script.people(seconds):
            pixels = dataclasses.astuple(person_box(person, script.camera))
            is_behind = int(person.figure.z > script.room.wall_z)
            rows.append((f"{seconds:.3f}", is_behind, *(f"{value:.1f}" for value in pixels)))
    with replaced_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
