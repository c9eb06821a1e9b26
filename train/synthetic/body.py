"""An articulated person: joint angles in, joint positions in metres out.

Body axes: x to the person's left, y up, z forward. A pose is a vector of joint angles in radians,
indexed by the names in `JOINT_ANGLES`. The lowest point of the body rests on the floor, so the same
forward kinematics serves standing, sitting and lying.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "JOINT_ANGLES",
    "LIMBS",
    "Body",
    "joint_positions",
    "pose",
    "random_body",
    "world_positions",
]

FloatArray = NDArray[np.float64]

# pitch and roll turn the whole body; lean bends the trunk at the hip; the rest are joints, left
# then right.
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
    """One person's build and clothes. Lengths are fractions of `height_metres`; colours are RGB
    0 to 255.
    """

    height_metres: float
    girth: float
    leg: float
    colours: dict[str, tuple[int, int, int]]
    coat: bool
    hat: bool


def random_body(rng: np.random.Generator) -> Body:
    """Draw a build and clothes."""
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
    """A pose vector from named joint angles (radians); the others are zero, which is standing
    upright.
    """
    vector = np.zeros(len(JOINT_ANGLES))
    for name, value in angles.items():
        vector[_INDEX[name]] = value
    return vector


def joint_positions(angles: FloatArray, body: Body) -> FloatArray:
    """Joint positions `[17, 3]` in metres in body axes, feet at the origin, lowest point on the
    floor.
    """
    value = dict(zip(JOINT_ANGLES, angles, strict=True))
    points = np.zeros((len(JOINTS), 3))
    trunk = _sagittal(value["lean"])
    points[NECK] = 0.30 * trunk
    points[HEAD] = points[NECK] + 0.095 * _sagittal(value["lean"] + value["nod"])
    for side, sign in (("l", 1.0), ("r", -1.0)):
        suffix = "left" if side == "l" else "right"
        _leg(points, side, sign, value[f"hip_{suffix}"], value[f"knee_{suffix}"], body.leg)
        _arm(
            points,
            side,
            sign,
            value["lean"],
            value[f"shoulder_{suffix}"],
            value[f"abduction_{suffix}"],
            value[f"elbow_{suffix}"],
            trunk,
        )
    points = points @ _rotation(value["pitch"], value["roll"]).T * body.height_metres
    points[:, 1] -= points[:, 1].min() - 0.035 * body.height_metres
    feet = points[list(ANKLES)].mean(axis=0)
    points[:, (0, 2)] -= feet[[0, 2]]
    return points


def world_positions(points: FloatArray, x: float, z: float, yaw: float) -> FloatArray:
    """Place body-frame points on the floor at (x, z) metres, turned by `yaw` (0 faces the
    camera).
    """
    sine = np.sin(yaw)
    cosine = np.cos(yaw)
    world = points.copy()
    # The camera looks along +z, so facing it means looking along -z.
    world[:, 0] = x - points[:, 0] * cosine + points[:, 2] * sine
    world[:, 2] = z - points[:, 2] * cosine - points[:, 0] * sine
    return world


def _leg(
    points: FloatArray, side: str, sign: float, hip: float, knee: float, length: float
) -> None:
    start = np.array([0.07 * sign, 0.0, 0.0])
    points[_ROW[f"hip_{side}"]] = start
    points[_ROW[f"knee_{side}"]] = start - length * _sagittal(-hip)
    points[_ROW[f"ankle_{side}"]] = points[_ROW[f"knee_{side}"]] - length * _sagittal(-hip + knee)
    foot = np.array([0.0, -0.012, 0.075])
    points[_ROW[f"toe_{side}"]] = points[_ROW[f"ankle_{side}"]] + foot


def _arm(
    points: FloatArray,
    side: str,
    sign: float,
    lean: float,
    flexion: float,
    abduction: float,
    elbow: float,
    trunk: FloatArray,
) -> None:
    shoulder = 0.27 * trunk + np.array([0.105 * sign, 0.0, 0.0])
    upper = _arm_direction(sign, lean - flexion, abduction)
    lower = _arm_direction(sign, lean - flexion - elbow, abduction)
    points[_ROW[f"shoulder_{side}"]] = shoulder
    points[_ROW[f"elbow_{side}"]] = shoulder + 0.165 * upper
    points[_ROW[f"hand_{side}"]] = points[_ROW[f"elbow_{side}"]] + 0.18 * lower


def _arm_direction(sign: float, angle: float, abduction: float) -> FloatArray:
    down: FloatArray = -_sagittal(angle) * np.cos(abduction)
    down[0] = sign * np.sin(abduction)
    return down


def _sagittal(angle: float) -> FloatArray:
    """Unit vector in the person's sagittal plane, leaning forward by `angle` from upright."""
    return np.array([0.0, np.cos(angle), np.sin(angle)])


def _rotation(pitch: float, roll: float) -> FloatArray:
    cp = np.cos(pitch)
    sp = np.sin(pitch)
    cr = np.cos(roll)
    sr = np.sin(roll)
    forward = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    sideways = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    rotation: FloatArray = sideways @ forward
    return rotation


def _cloth(rng: np.random.Generator) -> FloatArray:
    """A clothing colour: any hue, mostly muted."""
    base = rng.uniform(25, 230)
    return np.clip(base + rng.normal(0, 35, 3), 8, 250)


def _rgb(colour: Sequence[float] | FloatArray) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue
