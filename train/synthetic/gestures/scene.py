"""Still and moving backgrounds behind a hand: rooms, desks, monitors, textures and blobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np

from train.synthetic.view.drawing import Colour, Frame, colour_of, shaded

__all__ = ["FrameAt", "draw_background", "random_colour", "texture"]

FrameAt: TypeAlias = Callable[[float], Frame]


def draw_background(rng: np.random.Generator, width: int, height: int, *, table: bool) -> FrameAt:
    """Draw a background as a function of time in seconds; each call returns a new frame.

    Args:
        table: show the top of a table from above.
    """
    margin = height // 8
    kinds = ("desk",) if table else ("room", "room", "room", "monitor", "texture", "blobs")
    still = _PAINTERS[str(rng.choice(kinds))](rng, width + 2 * margin, height + 2 * margin)
    moves = rng.random() < 0.25
    drift = rng.uniform(0.2, 1.0, 2) * margin * moves
    rates = rng.uniform(0.1, 0.5, 2)
    phases = rng.uniform(0, 2 * np.pi, 2)
    flicker = _flicker(rng, width, height) if rng.random() < 0.15 and not table else None
    passer_by = _passer_by(rng, width, height) if rng.random() < 0.15 and not table else None

    def at(time: float) -> Frame:
        x, y = margin + np.round(drift * np.sin(phases + 2 * np.pi * rates * time)).astype(int)
        frame = still[y : y + height, x : x + width].copy()
        if flicker:
            flicker(frame, time)
        if passer_by:
            passer_by(frame, time)
        return frame

    return at


def random_colour(rng: np.random.Generator) -> Colour:
    """Draw the colour of a thing: often dull, sometimes bright."""
    if rng.random() < 0.2:
        return colour_of(rng.uniform(10, 245, 3))
    return colour_of(rng.uniform(15, 240) + rng.normal(0, 22, 3))


def texture(rng: np.random.Generator, width: int, height: int, contrast: float) -> Frame:
    """Draw a cloudy, coloured texture; `contrast` is in grey levels."""
    layers = np.zeros((height, width, 3), np.float32)
    for cells in (3, 9, 30, 80):
        grid = rng.normal(0, 1, (max(2, cells * height // width), cells, 1))
        grid = (grid + 0.35 * rng.normal(0, 1, (*grid.shape[:2], 3))).astype(np.float32)
        layers += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.4
    base = rng.uniform(30, 220) + rng.normal(0, 25, 3)
    clipped: Frame = np.clip(base + contrast * layers, 0, 255).astype(np.uint8)
    return clipped


def _desk(rng: np.random.Generator, width: int, height: int) -> Frame:
    plain = texture(rng, width, height, float(rng.uniform(3, 10)))
    grain = rng.normal(0, rng.uniform(0, 9), (height, 1, 1)).astype(np.float32)
    wood = np.clip(plain + cv2.blur(grain, (1, 3))[:, :, None], 0, 255)
    frame: Frame = wood.astype(np.uint8)
    for _ in range(int(rng.integers(0, 5))):
        _turned_box(rng, frame)
    return frame


def _room(rng: np.random.Generator, width: int, height: int) -> Frame:
    frame = texture(rng, width, height, float(rng.uniform(1, 8)))
    if rng.random() < 0.6:
        corner = int(rng.uniform(0.1, 0.9) * width)
        side = frame[:, corner:].astype(np.float32) * rng.uniform(0.7, 1.2)
        frame[:, corner:] = np.clip(side, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(1, 7))):
        _box(rng, frame, 0.08, 0.45)
    if rng.random() < 0.35:  # a bright window
        _box(rng, frame, 0.3, 0.6, colour=colour_of(rng.uniform(200, 255) + rng.normal(0, 8, 3)))
    if rng.random() < 0.35:
        _shelf(rng, frame)
    blur = float(rng.choice([0.0, 1.0, 2.5]))
    return _blurred(frame, blur) if blur else frame


def _shelf(rng: np.random.Generator, frame: Frame) -> None:
    height, width = frame.shape[:2]
    x, y = int(rng.uniform(0, 0.7) * width), int(rng.uniform(0.1, 0.6) * height)
    tall = int(rng.uniform(0.1, 0.2) * height)
    for _ in range(int(rng.integers(6, 18))):
        wide = int(rng.uniform(0.01, 0.035) * width) + 1
        top = y + int(rng.uniform(0, 0.3) * tall)
        cv2.rectangle(frame, (x, top), (x + wide, y + tall), random_colour(rng), -1)
        x += wide + 1


def _monitor(rng: np.random.Generator, width: int, height: int) -> Frame:
    frame = _room(rng, width, height)
    left, right = int(rng.uniform(0, 0.25) * width), int(rng.uniform(0.7, 1) * width)
    top, low = int(rng.uniform(0.05, 0.2) * height), int(rng.uniform(0.6, 0.9) * height)
    cv2.rectangle(frame, (left, top), (right, low), (15, 15, 18), -1)
    screen = frame[top + 4 : low - 4, left + 4 : right - 4]
    screen[:] = random_colour(rng)
    line = max(3, height // 40)
    ink = random_colour(rng)
    for y in range(line, screen.shape[0] - line, 2 * line):
        length = int(rng.uniform(0.1, 0.9) * screen.shape[1])
        cv2.line(screen, (line, y), (length, y), ink, max(1, line // 2))
    return frame


def _texture(rng: np.random.Generator, width: int, height: int) -> Frame:
    return texture(rng, width, height, float(rng.uniform(5, 40)))


def _blobs(rng: np.random.Generator, width: int, height: int) -> Frame:
    frame = texture(rng, width, height, float(rng.uniform(5, 30)))
    for _ in range(int(rng.integers(8, 30))):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(rng.uniform(0.02, 0.2) * width), int(rng.uniform(0.02, 0.25) * height))
        angle = float(rng.uniform(0, 180))
        colour = random_colour(rng)
        cv2.ellipse(frame, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    return _blurred(frame, float(rng.uniform(1, 5)))


def _blurred(frame: Frame, sigma: float) -> Frame:
    blurred: Frame = cv2.GaussianBlur(frame, (0, 0), sigma)
    return blurred


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int], Frame]] = {
    "desk": _desk,
    "room": _room,
    "monitor": _monitor,
    "texture": _texture,
    "blobs": _blobs,
}


def _box(
    rng: np.random.Generator,
    frame: Frame,
    smallest: float,
    largest: float,
    colour: Colour | None = None,
) -> None:
    height, width = frame.shape[:2]
    x, y = int(rng.uniform(-0.1, 0.95) * width), int(rng.uniform(-0.1, 0.9) * height)
    size = rng.uniform(smallest, largest, 2) * height
    colour = random_colour(rng) if colour is None else colour
    corner = (x + int(size[0]), y + int(size[1]))
    cv2.rectangle(frame, (x, y), corner, colour, -1)
    cv2.rectangle(frame, (x, y), corner, shaded(colour, 0.7), 2)


def _turned_box(rng: np.random.Generator, frame: Frame) -> None:
    height, width = frame.shape[:2]
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    size = rng.uniform(0.08, 0.5, 2) * height
    box = (centre, (float(size[0]), float(size[1])), float(rng.uniform(0, 90)))
    corners = np.round(cv2.boxPoints(box)).astype(np.int32)
    cv2.fillPoly(frame, [corners], random_colour(rng), cv2.LINE_AA)


def _flicker(rng: np.random.Generator, width: int, height: int) -> Callable[[Frame, float], None]:
    """Return a function that draws a screen that changes its brightness."""
    x, y = int(rng.uniform(0, 0.8) * width), int(rng.uniform(0, 0.6) * height)
    wide, tall = (int(size * height) for size in rng.uniform(0.15, 0.4, 2))
    colour = rng.uniform(60, 255, 3)
    rate, phase = rng.uniform(0.5, 5), rng.uniform(0, 6)

    def draw(frame: Frame, time: float) -> None:
        light = 0.65 + 0.35 * np.sin(phase + 6.28 * rate * time)
        cv2.rectangle(frame, (x, y), (x + wide, y + tall), colour_of(colour * light), -1)

    return draw


def _passer_by(rng: np.random.Generator, width: int, height: int) -> Callable[[Frame, float], None]:
    """Return a function that draws a person who walks past, far behind the hand."""
    start, speed = rng.uniform(-0.5, 1.5) * width, float(rng.choice([-1, 1]))
    speed *= rng.uniform(0.2, 0.7) * width
    size = rng.uniform(0.25, 0.5) * height
    top = rng.uniform(0.2, 0.4) * height
    clothes, skin = random_colour(rng), random_colour(rng)

    def draw(frame: Frame, time: float) -> None:
        x = int(start + speed * time)
        body = (x, int(top + 0.9 * size))
        cv2.ellipse(frame, body, (int(0.28 * size), int(0.7 * size)), 0, 0, 360, clothes, -1)
        cv2.circle(frame, (x, int(top)), int(0.17 * size), skin, -1, cv2.LINE_AA)

    return draw
