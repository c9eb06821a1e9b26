"""Clips in which it is known where the action is, to measure where a network looks.

The person who acts is at a quarter of the frame's width, left and right in turn, so that looking at
the middle does not help. At the other side there may be a person who stands still, or a bright
rectangle that flickers, such as a television.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.synthetic.boxes import Box, person_box
from train.synthetic.film import frames_at, random_look
from train.synthetic.motions import body as bodies
from train.synthetic.motions.motion import Figure
from train.synthetic.people import Person, actor
from train.synthetic.script import Script, clip_script
from train.synthetic.truth import CLIP_SECONDS
from train.synthetic.view.camera import Camera

__all__ = ["DISTRACTORS", "AttentionClip", "Distractor", "attention_clips"]

Distractor = Literal["none", "person", "flicker"]
DISTRACTORS: tuple[Distractor, ...] = ("none", "person", "flicker")

_FRAMES = 32
_FPS = 15.0
_SIDES = (0.25, 0.75)  # places of the person who acts, as fractions of the frame's width
_CHEST_METRES = 0.9
_MAX_PAN = 0.9  # radians
_MAX_X = 8.0  # metres


@dataclasses.dataclass(frozen=True)
class AttentionClip:
    """A clip and its truth: `frames_THWC`, the action, and boxes in pixels of the frame.

    `actor` holds the box of the person who acts, for each frame. `other` is the box of what should
    not be looked at; None without it.
    """

    label: str
    frames_THWC: NDArray[np.uint8]
    actor: tuple[Box, ...]
    other: Box | None


def attention_clips(
    labels: Sequence[str], count: int, *, seed: int, distractor: Distractor
) -> Iterator[AttentionClip]:
    """Yield `count` clips of each action; the same seed gives the same people in every condition.

    Args:
        labels: actions of the generated scenes, without background.
    """
    for label in labels:
        for number in range(count):
            # The label's letters, and not its place: a shorter list gives the same clips.
            rng = np.random.default_rng([seed, number, *label.encode()])
            yield _clip(label, rng, _SIDES[number % 2], distractor)


def _clip(
    label: str, rng: np.random.Generator, side: float, distractor: Distractor
) -> AttentionClip:
    script = clip_script(label, rng)
    look = dataclasses.replace(random_look(rng), shake=(0.0, 1.0))
    still, levels = float(rng.uniform(-1, 1)), rng.integers(0, 256, _FRAMES)
    first = max(0.0, (script.seconds - CLIP_SECONDS) / 2)
    times = [first + index / _FPS for index in range(_FRAMES)]
    acting = [script.people(time)[0] for time in times]  # the person who acts comes first
    figures = [person.figure for person in acting]
    middle = (
        float(np.mean([figure.x for figure in figures])),
        _CHEST_METRES,
        float(np.mean([figure.z for figure in figures])),
    )
    camera = _panned(script.camera, middle, side)
    script = dataclasses.replace(script, camera=camera)
    other = None
    if distractor == "person":
        script, bystander = _with_bystander(script, rng, _x_at(camera, 1 - side, middle[2]), still)
        other = person_box(bystander, camera)
    frames = [frame.copy() for frame in frames_at(script, times, rng, look)]
    if distractor == "flicker":
        other = _flicker(frames, 1 - side, levels)
    boxes = tuple(person_box(person, camera) for person in acting)
    return AttentionClip(label, np.stack(frames), boxes, other)


def _panned(camera: Camera, point: tuple[float, float, float], side: float) -> Camera:
    """Turn a camera so that it shows the point at a fraction of its width."""
    low, high = -_MAX_PAN, _MAX_PAN
    for _ in range(40):
        middle = (low + high) / 2
        turned = dataclasses.replace(camera, pan=middle)
        # Turning to the right moves what is seen to the left.
        if turned.project_points(point)[0][0] > side * camera.width:
            low = middle
        else:
            high = middle
    return dataclasses.replace(camera, pan=(low + high) / 2)


def _x_at(camera: Camera, side: float, z: float) -> float:
    """Return the place at depth `z` that the camera shows at a fraction of its width."""
    low, high = -_MAX_X, _MAX_X
    for _ in range(40):
        middle = (low + high) / 2
        if camera.project_points((middle, _CHEST_METRES, z))[0][0] < side * camera.width:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _with_bystander(
    script: Script, rng: np.random.Generator, x: float, yaw: float
) -> tuple[Script, Person]:
    z = script.room.wall_z - 0.5
    figure = Figure(bodies.pose(), x, z, yaw)
    bystander = actor(rng, lambda _: figure, sway=0.02)
    people = script.people
    script = dataclasses.replace(script, people=lambda t: [*people(t), *bystander(t)])
    return script, bystander(0.0)[0]


def _flicker(frames: Sequence[NDArray[np.uint8]], side: float, levels: NDArray[np.int64]) -> Box:
    height, width = frames[0].shape[:2]
    left, right = (round((side + offset) * width) for offset in (-0.08, 0.08))
    top, bottom = round(0.2 * height), round(0.4 * height)
    for frame, level in zip(frames, levels, strict=True):
        frame[top:bottom, left:right] = level
    return Box(left, top, right, bottom)
