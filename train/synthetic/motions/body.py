"""A model of a person's body: it computes joint positions in metres from joint angles.

Body axes: x to the person's left, y up, z forward. A pose is a vector of joint angles in radians,
indexed by the names in `JOINT_ANGLES`. The lowest point of the body is always on the floor, so the
same computation works for standing, sitting and lying.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ANKLES",
    "HANDS",
    "HEAD",
    "HIPS",
    "JOINT_ANGLES",
    "LIMBS",
    "NECK",
    "PELVIS",
    "SHOULDERS",
    "Body",
    "FloatArray",
    "joint_positions",
    "pose",
    "random_body",
    "world_positions",
]

FloatArray = NDArray[np.float64]

# pitch and roll turn the whole body; lean bends the trunk at the hip, nod the neck; the rest are
# joints, left before right.
JOINT_ANGLES = (
    "pitch",
    "roll",
    "lean",
    "nod",
    "hip_left",
    "hip_right",
    "knee_left",
    "knee_right",
    "shoulder_left",
    "shoulder_right",
    "abduction_left",
    "abduction_right",
    "elbow_left",
    "elbow_right",
)
_INDEX = {name: index for index, name in enumerate(JOINT_ANGLES)}

# Joint names in the order of the rows that `joint_positions` returns.
JOINTS = (
    "pelvis",
    "neck",
    "head",
    "hip_l",
    "hip_r",
    "knee_l",
    "knee_r",
    "ankle_l",
    "ankle_r",
    "toe_l",
    "toe_r",
    "shoulder_l",
    "shoulder_r",
    "elbow_l",
    "elbow_r",
    "hand_l",
    "hand_r",
)
_ROW = {name: index for index, name in enumerate(JOINTS)}

# (from row, to row, part): the bones that are drawn.
LIMBS = tuple(
    (_ROW[a], _ROW[b], part)
    for a, b, part in (
        ("hip_l", "knee_l", "thigh"),
        ("knee_l", "ankle_l", "shin"),
        ("ankle_l", "toe_l", "shoe"),
        ("hip_r", "knee_r", "thigh"),
        ("knee_r", "ankle_r", "shin"),
        ("ankle_r", "toe_r", "shoe"),
        ("shoulder_l", "elbow_l", "sleeve"),
        ("elbow_l", "hand_l", "forearm"),
        ("shoulder_r", "elbow_r", "sleeve"),
        ("elbow_r", "hand_r", "forearm"),
    )
)
PELVIS = _ROW["pelvis"]
NECK = _ROW["neck"]
HEAD = _ROW["head"]
HIPS = (_ROW["hip_l"], _ROW["hip_r"])
SHOULDERS = (_ROW["shoulder_l"], _ROW["shoulder_r"])
ANKLES = (_ROW["ankle_l"], _ROW["ankle_r"])
HANDS = (_ROW["hand_l"], _ROW["hand_r"])


@dataclasses.dataclass(frozen=True)
class Body:
    """The size and clothes of one person.

    `leg` is the length of the thigh, and also of the shin, as a fraction of the height. `girth`
    scales all widths. `colours` maps body parts to RGB colours, 0 to 255.
    """

    height_metres: float
    girth: float
    leg: float
    colours: dict[str, tuple[int, int, int]]
    coat: bool
    hat: bool


def random_body(rng: np.random.Generator) -> Body:
    """Draw a random body size and clothes."""
    skin = np.array([230, 190, 160]) * rng.uniform(0.35, 1.05)
    shirt, trousers, shoes, hair = (_cloth(rng) for _ in range(4))
    sleeves_long = rng.random() < 0.6
    colours = {
        "skin": skin,
        "shirt": shirt,
        "thigh": trousers,
        "shoe": shoes * 0.6,
        "hair": hair * 0.5,
        "shin": trousers if rng.random() < 0.85 else skin,
        "sleeve": shirt,
        "forearm": shirt if sleeves_long else skin,
    }
    return Body(
        height_metres=float(rng.uniform(1.5, 1.92)),
        girth=float(rng.uniform(0.8, 1.35)),
        leg=float(rng.uniform(0.235, 0.26)),
        colours={part: _rgb(colour) for part, colour in colours.items()},
        coat=bool(rng.random() < 0.2),
        hat=bool(rng.random() < 0.2),
    )


def pose(**angles: float) -> FloatArray:
    """Return a pose from named joint angles in radians; all other angles are 0 (upright)."""
    vector = np.zeros(len(JOINT_ANGLES))
    for name, value in angles.items():
        vector[_INDEX[name]] = value
    return vector


def joint_positions(angles: FloatArray, body: Body) -> FloatArray:
    """Return the joint positions `[17, 3]` in metres, in body axes.

    The midpoint of the ankles is at x = z = 0, and the lowest point of the body is on the floor.
    """
    value = dict(zip(JOINT_ANGLES, angles, strict=True))
    points = np.zeros((len(JOINTS), 3))
    trunk = _sagittal(value["lean"])
    points[NECK] = 0.30 * trunk
    points[HEAD] = points[NECK] + 0.095 * _sagittal(value["lean"] + value["nod"])
    for side, sign in (("l", 1.0), ("r", -1.0)):
        name = "left" if side == "l" else "right"
        _place_leg(points, side, sign, value[f"hip_{name}"], value[f"knee_{name}"], body.leg)
        shoulder = 0.27 * trunk + np.array([0.105 * sign, 0.0, 0.0])
        swing = value["lean"] - value[f"shoulder_{name}"]
        upper = _arm_direction(sign, swing, value[f"abduction_{name}"])
        lower = _arm_direction(sign, swing - value[f"elbow_{name}"], value[f"abduction_{name}"])
        _place_arm(points, side, shoulder, upper, lower)
    points = points @ _rotation(value["pitch"], value["roll"]).T * body.height_metres
    points[:, 1] -= points[:, 1].min() - 0.035 * body.height_metres
    feet = points[list(ANKLES)].mean(axis=0)
    points[:, (0, 2)] -= feet[[0, 2]]
    return points


def world_positions(
    points: FloatArray, x: float, z: float, yaw: float, *, lift: float = 0.0
) -> FloatArray:
    """Convert points from body axes to world axes, at (x, z) metres, turned by `yaw` radians.

    With a yaw of 0, the person faces the camera. `lift` metres are added to the height.
    """
    sine = np.sin(yaw)
    cosine = np.cos(yaw)
    world = points.copy()
    world[:, 1] += lift
    # The camera looks along +z, so facing it means looking along -z.
    world[:, 0] = x - points[:, 0] * cosine + points[:, 2] * sine
    world[:, 2] = z - points[:, 2] * cosine - points[:, 0] * sine
    return world


def _place_leg(
    points: FloatArray, side: str, sign: float, hip: float, knee: float, length: float
) -> None:
    start = np.array([0.07 * sign, 0.0, 0.0])
    points[_ROW[f"hip_{side}"]] = start
    points[_ROW[f"knee_{side}"]] = start - length * _sagittal(-hip)
    points[_ROW[f"ankle_{side}"]] = points[_ROW[f"knee_{side}"]] - length * _sagittal(-hip + knee)
    foot = np.array([0.0, -0.012, 0.075])
    points[_ROW[f"toe_{side}"]] = points[_ROW[f"ankle_{side}"]] + foot


def _place_arm(
    points: FloatArray, side: str, shoulder: FloatArray, upper: FloatArray, lower: FloatArray
) -> None:
    """Compute an arm's points from the directions of the upper arm and the forearm."""
    points[_ROW[f"shoulder_{side}"]] = shoulder
    points[_ROW[f"elbow_{side}"]] = shoulder + 0.165 * upper
    points[_ROW[f"hand_{side}"]] = points[_ROW[f"elbow_{side}"]] + 0.18 * lower


def _arm_direction(sign: float, angle: float, abduction: float) -> FloatArray:
    down: FloatArray = -_sagittal(angle) * np.cos(abduction)
    down[0] = sign * np.sin(abduction)
    return down


def _sagittal(angle: float) -> FloatArray:
    """Return the upward unit vector, tilted straight forward by `angle` radians."""
    return np.array([0.0, np.cos(angle), np.sin(angle)])


def _rotation(pitch: float, roll: float) -> FloatArray:
    cosine = np.cos(pitch)
    sine = np.sin(pitch)
    forward = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    cosine = np.cos(roll)
    sine = np.sin(roll)
    sideways = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    rotation: FloatArray = sideways @ forward
    return rotation


def _cloth(rng: np.random.Generator) -> FloatArray:
    """Draw a clothing colour: any hue, mostly muted."""
    base = rng.uniform(25, 230)
    return np.clip(base + rng.normal(0, 35, 3), 8, 250)


def _rgb(colour: Sequence[float] | FloatArray) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue
