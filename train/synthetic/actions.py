"""The actions: six motions, and each one played backwards.

A motion maps progress `u` in [0, 1] to a `Figure` (pose, place, facing, what the hand holds). The
second member of every pair *is* the first with `u` reversed, and everything else (speed, phase,
facing, clothes, idle movement) is drawn from the same distribution for both, so no single frame
tells the two apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.body import FloatArray, pose

__all__ = [
    "ACTIONS",
    "BACKGROUND",
    "LABELS",
    "PAIRS",
    "Figure",
    "Motion",
    "Place",
    "draw_motion",
    "idle_sway",
    "reverse",
]

PAIRS = (
    ("fall", "get_up"),
    ("sit_down", "stand_up"),
    ("walk_right", "walk_left"),
    ("raise_arm", "lower_arm"),
    ("pick_up", "put_down"),
    ("enter", "leave"),
)
ACTIONS = tuple(action for pair in PAIRS for action in pair)
BACKGROUND = "background"
LABELS = (BACKGROUND, *ACTIONS)

_DURATION_SECONDS = {
    "fall": (0.8, 1.6),
    "sit_down": (0.9, 1.7),
    "raise_arm": (0.7, 1.4),
    "pick_up": (1.2, 2.0),
    "enter": (1.6, 2.4),
}
_WALK_SPEED = (0.6, 1.2)  # metres per second


@dataclasses.dataclass(frozen=True)
class Figure:
    """One person at one instant. Metres and radians; `x` right, `z` away from the camera."""

    angles: FloatArray
    x: float
    z: float
    yaw: float
    carried: int | None = None  # 0: left hand, 1: right hand, None: empty hands


@dataclasses.dataclass(frozen=True)
class Place:
    """The spots of one room: where the person stands, where they walk to, where the door opens."""

    x: float
    z: float
    door_x: float
    wall_z: float


@dataclasses.dataclass(frozen=True)
class Motion:
    """An action with its length in seconds; `at(u)` is the figure at progress u.

    `object_spot` is where (x, z) on the floor an object lies whenever the figure does not carry it.
    """

    label: str
    seconds: float
    at: Callable[[float], Figure]
    object_spot: tuple[float, float] | None = None


def reverse(motion: Motion) -> Motion:
    """The same motion played backwards, under the other label of its pair."""
    partner = dict(PAIRS) | {b: a for a, b in PAIRS}
    return dataclasses.replace(motion, label=partner[motion.label], at=lambda u: motion.at(1.0 - u))


def draw_motion(
    label: str, rng: np.random.Generator, place: Place, *, target: tuple[float, float] | None = None
) -> Motion:
    """Draw one performance of `label`.

    Args:
        label: one of `ACTIONS`.
        place: for a forward motion the place it starts from; for a reversed one the place it ends
            at.
        target: walks only, the spot the *forward* (rightward) walk ends at.
    """
    forward = next(a for a, b in PAIRS if label in (a, b))
    motion = _walk(rng, place, target) if forward == "walk_right" else _DRAW[forward](rng, place)
    return motion if label == forward else reverse(motion)


def idle_sway(rng: np.random.Generator, strength: float) -> Callable[[float], FloatArray]:
    """Small periodic joint movement as a function of time in seconds; `strength` in radians."""
    names = (
        "lean",
        "nod",
        "shoulder_left",
        "shoulder_right",
        "abduction_left",
        "abduction_right",
        "elbow_left",
        "elbow_right",
    )
    weight = sum(pose(**{name: 1.0}) for name in names) * rng.uniform(0.1, 1.0, 14) * strength
    phase = rng.uniform(0, 2 * np.pi, 14)
    rate = rng.uniform(0.15, 0.7, 14)

    def sway(seconds: float) -> FloatArray:
        moved: FloatArray = weight * np.sin(phase + 2 * np.pi * rate * seconds)
        return moved

    return sway


def _fall(rng: np.random.Generator, place: Place) -> Motion:
    """To the floor, forwards, backwards or sideways, knees giving way in the middle."""
    stand = _standing(rng)
    heavy = rng.uniform(1.0, 1.9)
    direction = rng.choice(["forward", "backward", "side"])
    turn = {
        "forward": (1.5, 0.0),
        "backward": (-1.5, 0.0),
        "side": (0.0, float(rng.choice([-1.5, 1.5]))),
    }[str(direction)]
    buckle = rng.uniform(0.3, 1.0)
    middle = stand + pose(
        pitch=turn[0] * 0.3,
        roll=turn[1] * 0.3,
        lean=0.4 * np.sign(turn[0]) * buckle,
        hip_left=buckle,
        hip_right=buckle * 0.8,
        knee_left=1.6 * buckle,
        knee_right=1.4 * buckle,
        shoulder_left=0.8,
        shoulder_right=0.6,
        abduction_left=0.5,
        abduction_right=0.5,
    )
    # On the back the knees may stay up; face down or sideways the legs lie nearly flat.
    knees = rng.uniform(0, 0.7, 2) if direction == "backward" else rng.uniform(0, 0.12, 2)
    lying = pose(
        pitch=turn[0],
        roll=turn[1],
        lean=rng.uniform(-0.1, 0.1),
        hip_left=knees[0],
        hip_right=knees[1],
        knee_left=2 * knees[0],
        knee_right=2 * knees[1],
        shoulder_left=rng.uniform(0, 2.0),
        shoulder_right=rng.uniform(0, 1.2),
        abduction_left=rng.uniform(0, 0.6),
        abduction_right=rng.uniform(0, 0.6),
    )
    yaw = rng.uniform(-np.pi, np.pi)
    return _in_place("fall", rng, place, yaw, [stand, middle, lying], power=float(heavy))


def _sit_down(rng: np.random.Generator, place: Place) -> Motion:
    stand = _standing(rng)
    bend = stand + pose(
        lean=rng.uniform(0.4, 0.8), hip_left=0.8, hip_right=0.8, knee_left=0.9, knee_right=0.9
    )
    seated = pose(
        lean=rng.uniform(-0.15, 0.15),
        hip_left=1.5,
        hip_right=1.5,
        knee_left=1.5,
        knee_right=rng.uniform(1.3, 1.6),
        shoulder_left=rng.uniform(0.2, 0.8),
        shoulder_right=rng.uniform(0.2, 0.8),
        elbow_left=0.4,
        elbow_right=0.5,
    )
    yaw = rng.choice([-1.2, -0.7, 0.0, 0.7, 1.2]) + rng.normal(0, 0.15)
    return _in_place("sit_down", rng, place, float(yaw), [stand, bend, seated])


def _raise_arm(rng: np.random.Generator, place: Place) -> Motion:
    stand = _standing(rng)
    side = str(rng.choice(["left", "right"]))
    sideways = rng.random() < 0.5
    joint, other = ("abduction", "shoulder") if sideways else ("shoulder", "abduction")
    full = rng.uniform(1.9, 2.9)
    elbow = rng.uniform(0.0, 0.4)
    up = stand + pose(
        **{f"{joint}_{side}": full, f"{other}_{side}": rng.uniform(0, 0.2), f"elbow_{side}": elbow}
    )
    half = stand + pose(**{f"{joint}_{side}": full * 0.5, f"elbow_{side}": rng.uniform(0, 0.5)})
    yaw = rng.uniform(-0.9, 0.9) + (np.pi if rng.random() < 0.4 else 0.0)
    return _in_place("raise_arm", rng, place, float(yaw), [stand, half, up])


def _pick_up(rng: np.random.Generator, place: Place) -> Motion:
    """Bend, take the object from the floor, stand up with it."""
    stand = _standing(rng)
    hand = int(rng.integers(2))
    side = ("left", "right")[hand]
    squat = rng.uniform(0.2, 1.0)
    down = stand + pose(
        lean=1.75 - 0.55 * squat,
        nod=0.2,
        hip_left=1.5 * squat,
        hip_right=1.4 * squat,
        knee_left=2.0 * squat,
        knee_right=1.9 * squat,
        **{f"shoulder_{side}": rng.uniform(1.2, 1.6), f"elbow_{side}": 0.1},
    )
    holding = stand + pose(
        **{f"shoulder_{side}": rng.uniform(0.2, 0.7), f"elbow_{side}": rng.uniform(0.5, 1.3)}
    )
    yaw = float(rng.choice([-1.3, 1.3, 0.5, -0.5]) + rng.normal(0, 0.2))
    base = _in_place("pick_up", rng, place, yaw, [stand, down, holding])
    reach = 0.45
    spot = (float(place.x + reach * np.sin(yaw)), float(place.z - reach * np.cos(yaw)))

    def at(u: float) -> Figure:
        figure = base.at(u)
        return dataclasses.replace(figure, carried=hand) if u > 0.5 else figure

    return Motion("pick_up", base.seconds, at, object_spot=spot)


def _enter(rng: np.random.Generator, place: Place) -> Motion:
    """From behind the wall into the doorway, then out of it to `place`."""
    seconds = float(rng.uniform(*_DURATION_SECONDS["enter"]))
    hidden = place.door_x + float(rng.choice([-1.0, 1.0])) * rng.uniform(0.75, 0.95)
    back_z = place.wall_z + 0.35
    share = rng.uniform(0.3, 0.42)
    gait = _gait(rng)
    yaw = float(rng.choice([0.0, np.pi]) + rng.normal(0, 0.25))

    def at(u: float) -> Figure:
        if u < share:
            part = u / share
            x = hidden + (place.door_x - hidden) * part
            z = back_z
        else:
            part = (u - share) / (1 - share)
            x = place.door_x + (place.x - place.door_x) * part
            z = back_z + (place.z - back_z) * part
        return Figure(gait(u * seconds, _fade(u)), float(x), float(z), yaw)

    return Motion("enter", seconds, at)


def _walk(rng: np.random.Generator, place: Place, target: tuple[float, float] | None) -> Motion:
    """Rightward across the picture, facing either way: half of the people walk backwards."""
    if target is None:
        target = (place.x + float(rng.uniform(1.0, 2.6)), place.z + float(rng.normal(0, 0.15)))
    end_x, end_z = target
    seconds = max(
        float(np.hypot(end_x - place.x, end_z - place.z) / rng.uniform(*_WALK_SPEED)), 0.9
    )
    gait = _gait(rng)
    yaw = float(rng.choice([-1.0, 1.0]) * (np.pi / 2 + rng.normal(0, 0.25)))

    def at(u: float) -> Figure:
        x = place.x + (end_x - place.x) * u
        z = place.z + (end_z - place.z) * u
        return Figure(gait(u * seconds, _fade(u)), x, z, yaw)

    return Motion("walk_right", seconds, at)


def _gait(rng: np.random.Generator) -> Callable[[float, float], FloatArray]:
    """Walking pose at a time in seconds; the second argument fades it to standing. Symmetric in
    time.
    """
    phase = rng.uniform(0, 2 * np.pi)
    rate = rng.uniform(0.8, 1.15)
    swing = rng.uniform(0.35, 0.55)
    lift = rng.uniform(0.3, 0.7)
    arms = rng.uniform(0.2, 0.5)
    lean = rng.uniform(0, 0.1)

    def at(seconds: float, amount: float) -> FloatArray:
        angle = phase + 2 * np.pi * rate * seconds
        sine = np.sin(angle)
        cosine = np.cos(angle)
        knee = lift * cosine * cosine
        return pose(
            lean=lean,
            hip_left=amount * swing * sine,
            hip_right=-amount * swing * sine,
            knee_left=amount * (knee if sine > 0 else 0.25 * knee),
            knee_right=amount * (knee if sine <= 0 else 0.25 * knee),
            shoulder_left=-amount * arms * sine,
            shoulder_right=amount * arms * sine,
            elbow_left=0.25,
            elbow_right=0.25,
            abduction_left=0.08,
            abduction_right=0.08,
        )

    return at


def _in_place(
    label: str,
    rng: np.random.Generator,
    place: Place,
    yaw: float,
    keys: list[FloatArray],
    power: float = 1.0,
) -> Motion:
    """A motion through key poses at one spot; `power` above 1 starts slowly and ends fast."""
    seconds = float(rng.uniform(*_DURATION_SECONDS[label]))

    def at(u: float) -> Figure:
        clamped = float(np.clip(u, 0.0, 1.0))
        eased = _smooth(clamped) ** power * (len(keys) - 1)
        index = min(int(eased), len(keys) - 2)
        part = _smooth(eased - index) if len(keys) > 2 else eased - index
        return Figure(keys[index] * (1 - part) + keys[index + 1] * part, place.x, place.z, yaw)

    return Motion(label, seconds, at)


def _standing(rng: np.random.Generator) -> FloatArray:
    return pose(
        lean=rng.uniform(-0.05, 0.1),
        hip_left=rng.uniform(-0.1, 0.1),
        hip_right=rng.uniform(-0.1, 0.1),
        shoulder_left=rng.uniform(-0.15, 0.25),
        shoulder_right=rng.uniform(-0.15, 0.25),
        abduction_left=rng.uniform(0.05, 0.25),
        abduction_right=rng.uniform(0.05, 0.25),
        elbow_left=rng.uniform(0, 0.5),
        elbow_right=rng.uniform(0, 0.5),
    )


def _smooth(u: float) -> float:
    return u * u * (3 - 2 * u)


def _fade(u: float) -> float:
    """1 in the middle of a walk, 0 at both ends: people start and stop standing."""
    return float(np.clip(min(u, 1 - u) / 0.12, 0.0, 1.0))


_DRAW: dict[str, Callable[[np.random.Generator, Place], Motion]] = {
    "fall": _fall,
    "sit_down": _sit_down,
    "raise_arm": _raise_arm,
    "pick_up": _pick_up,
    "enter": _enter,
}
