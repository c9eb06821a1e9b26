"""Draws falls: standing, out of a walk, from a chair and from a bed, in every direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from train.synthetic.motions import body as bodies
from train.synthetic.motions.body import FloatArray, joint_positions, pose, world_positions
from train.synthetic.motions.motion import Figure, Motion, Place, Support
from train.synthetic.motions.motions_in_place import seated
from train.synthetic.motions.poses import bump, smooth, standing
from train.synthetic.motions.walks import gait

__all__ = ["before_wall", "fall"]

_STANDING_KINDS = ("stiff", "buckle", "buckle", "slip", "catch", "slide", "trip")
_FROM_CHAIR = 0.14  # fractions of the falls in rooms with furniture
_FROM_BED = 0.1
_FLAT = 1.5  # radians by which the body turns from upright to lying
_WALL_GAP = 0.15  # metres that a lying person stays in front of the wall
# Arms that are spread out would prop up a body that rolls over.
_NARROW = 1.0 - pose(abduction_left=0.8, abduction_right=0.8)
_MEAN_BODY = bodies.Body(1.7, 1.0, 0.247, {}, coat=False, hat=False)

_Limbs = Callable[[float], FloatArray]
_Turn = tuple[float, float]  # pitch and roll in radians


def fall(rng: np.random.Generator, place: Place, *, furniture: bool = False) -> Motion:
    """Draw a fall of a random kind near `place`; it ends in front of the back wall.

    Args:
        furniture: also draw falls from a chair and from a bed, which need the motion's `support`.
    """
    choice = rng.random()
    if furniture and choice < _FROM_CHAIR:
        motion = _from_chair(rng, place)
    elif furniture and choice < _FROM_CHAIR + _FROM_BED:
        motion = _from_bed(rng, place)
    else:
        motion = _from_feet(str(rng.choice(_STANDING_KINDS)), rng, place)
    return before_wall(motion, place.wall_z)


def _from_feet(kind: str, rng: np.random.Generator, place: Place) -> Motion:
    turn = _direction(kind, rng)
    seconds = float(rng.uniform(1.3, 2.0) if kind == "slide" else rng.uniform(0.5, 1.6))
    impact = float(rng.uniform(0.72, 0.88))
    walks = kind == "trip" or (kind != "slide" and rng.random() < 0.35)
    speed = float(rng.uniform(0.6, 1.3)) if walks else 0.0
    moves = gait(rng)
    start = moves(0.0, 1.0) if walks else standing(rng)
    limbs = _limbs(kind, rng, start, turn)
    tipping = _tipping(kind, rng)
    yaw = float(rng.uniform(-np.pi, np.pi))
    slide = rng.uniform(0.45, 0.8) if kind == "slip" else 0.0
    drift = float(rng.uniform(0, 0.35))
    ahead = np.array([np.sin(yaw), -np.cos(yaw)])
    aside = np.array([np.cos(yaw), np.sin(yaw)])
    heading = np.sin(turn[0]) * ahead + np.sin(turn[1]) * aside

    def at(u: float) -> Figure:
        s = float(np.clip(u / impact, 0.0, 1.0))
        if u < 0:
            angles = moves(u * seconds, 1.0)
            path = speed * u * seconds * ahead
        else:
            angles = limbs(u) + _turned(turn, tipping(s), u, impact)
            # The walk's speed is lost until the impact.
            glide = speed * impact * seconds * (s - s * s / 2)
            path = (glide + slide * smooth(s / 0.65)) * ahead + drift * s * s * heading
        return Figure(angles, float(place.x + path[0]), float(place.z + path[1]), yaw)

    lead = float(rng.uniform(0.5, 1.1)) if walks else 0.0
    return Motion("fall", seconds, at, lead_seconds=lead)


def _direction(kind: str, rng: np.random.Generator) -> _Turn:
    """Draw pitch and roll at the end of a fall."""
    directions = {
        "slip": ["backward", "backward", "back side"],
        "catch": ["forward", "forward", "front side"],
        "trip": ["forward", "forward", "front side"],
        "slide": ["side", "back side", "front side", "backward"],
    }.get(kind, ["forward", "backward", "side", "side", "front side", "back side"])
    direction = str(rng.choice(directions))
    side = float(rng.choice([-1, 1]))
    tilt = float(rng.normal(0, 0.25))
    if direction in ("forward", "backward"):
        return (_FLAT if direction == "forward" else -_FLAT), tilt
    if direction == "side":
        return tilt, side * _FLAT
    return float(rng.uniform(0.4, 1.0)) * (1 if direction == "front side" else -1), side * _FLAT


def _tipping(kind: str, rng: np.random.Generator) -> Callable[[float], float]:
    """Return how far the body has tipped, 0 to 1, at a fraction of the time before the impact."""
    late = {"buckle": 0.25, "slide": 0.5}.get(kind, 0.0)
    steep = float(rng.uniform(2.2, 3.6))  # a pole that tips over follows a hyperbolic cosine

    def at(s: float) -> float:
        s = max(0.0, (s - late) / (1 - late))
        if kind == "slide":
            return smooth(s)
        return float((np.cosh(steep * s) - 1) / (np.cosh(steep) - 1))

    return at


def _turned(turn: _Turn, tipped: float, u: float, impact: float) -> FloatArray:
    """Return pitch and roll; after the impact the body rebounds a little and settles."""
    after = max(0.0, (u - impact) / (1 - impact))
    part = tipped - 0.05 * np.sin(np.pi * min(1.0, after * 1.5)) * (1 - after)
    return pose(pitch=turn[0] * part, roll=turn[1] * part)


def _limbs(kind: str, rng: np.random.Generator, start: FloatArray, turn: _Turn) -> _Limbs:
    """Draw the movement of trunk, legs and arms from a start pose to a lying pose."""
    lying = _lying_limbs(rng, turn)
    bend = {"stiff": 0.0, "slide": 1.1, "buckle": rng.uniform(0.6, 1.0), "slip": 0.3}
    depth = float(bend.get(kind, rng.uniform(0.1, 0.5)))
    forward = float(np.sign(turn[0])) if abs(turn[0]) > 0.3 else 0.0
    bent = pose(
        lean=0.4 * forward * depth + (0.3 if kind == "slip" else 0.0),
        nod=0.3 * forward,
        hip_left=depth + (0.6 if kind == "slip" else 0.0),
        hip_right=depth * 0.85,
        knee_left=1.7 * depth,
        knee_right=1.5 * depth,
    )
    flail = pose(
        shoulder_left=rng.uniform(-0.6, 1.6),
        shoulder_right=rng.uniform(-0.6, 1.6),
        abduction_left=rng.uniform(0.2, 1.3),
        abduction_right=rng.uniform(0.2, 1.3),
        elbow_left=rng.uniform(0, 0.8),
        elbow_right=rng.uniform(0, 0.8),
    ) * (0.15 if kind == "stiff" and rng.random() < 0.5 else 1.0)
    if kind in ("catch", "trip"):
        flail = pose(shoulder_left=rng.uniform(1.3, 2.1), shoulder_right=rng.uniform(1.3, 2.1))
    swings = pose(shoulder_left=1.0, shoulder_right=-1.0, abduction_left=0.5, abduction_right=0.5)
    swings = swings * rng.uniform(0.0, 0.5)
    turns = rng.uniform(0.8, 1.8)

    def at(u: float) -> FloatArray:
        settled = smooth((u - 0.25) / 0.75)
        flung = bump(u, 0.5, 0.5)
        angles: FloatArray = (
            start * (1 - settled)
            + lying * settled
            + bent * bump(u, 0.5, 0.5)
            + (flail + swings * np.sin(2 * np.pi * turns * u)) * flung
        )
        return angles

    return at


def _lying_limbs(rng: np.random.Generator, turn: _Turn) -> FloatArray:
    """Draw limbs that lie on the floor and do not prop the body up."""
    side, face_down = abs(turn[0]) <= 1.2, turn[0] > 1.2
    # A person on the back may keep the knees up; on the side, the legs may be drawn up.
    knees = rng.uniform(0, 0.9 if side else 0.12 if face_down else 0.7, 2)
    arms = {}
    for name in ("left", "right"):
        overhead = rng.random() < 0.35
        along = rng.uniform(2.75, 3.1) if overhead else rng.uniform(-0.1, 0.2)
        arms[f"shoulder_{name}"] = float(rng.uniform(0, 2.4) if side else along)
        arms[f"abduction_{name}"] = float(rng.uniform(0, 0.25 if side else 1.2))
        arms[f"elbow_{name}"] = float(rng.uniform(0, 0.15 if face_down else 1.6))
    return pose(
        lean=rng.uniform(-0.1, 0.1),
        hip_left=knees[0],
        hip_right=knees[1],
        knee_left=2 * knees[0],
        knee_right=2 * knees[1],
        **arms,
    )


def _from_chair(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a person who sinks or tips off a chair, forward or to a side."""
    kind = str(rng.choice(["slide", "buckle"]))
    side = float(rng.choice([-1, 1]))
    forward = rng.random() < 0.35
    turn = (_FLAT, float(rng.normal(0, 0.3))) if forward else (rng.uniform(-0.3, 0.6), side * _FLAT)
    start = seated(rng)
    lying = _lying_limbs(rng, turn) + pose(
        hip_left=rng.uniform(0, 0.6), knee_left=rng.uniform(0, 0.6)
    )
    seconds = float(rng.uniform(0.8, 2.0))
    impact = float(rng.uniform(0.75, 0.88))
    tipping = _tipping("slide" if kind == "slide" else "stiff", rng)
    slump = pose(lean=rng.uniform(0.2, 0.7), nod=rng.uniform(0.2, 0.7)) + pose(
        abduction_left=rng.uniform(0, 0.9), abduction_right=rng.uniform(0, 0.9)
    )
    yaw = float(rng.uniform(-1.3, 1.3))
    ahead = float(rng.uniform(0.1, 0.45))

    def at(u: float) -> Figure:
        s = float(np.clip(u / impact, 0.0, 1.0))
        settled = smooth((u - 0.35) / 0.65)
        angles = start * (1 - settled) + lying * settled + slump * bump(u, 0.4, 0.4)
        angles = angles + _turned(turn, tipping(s), u, impact)
        x = place.x + ahead * smooth(s) * np.sin(yaw)
        z = place.z - ahead * smooth(s) * np.cos(yaw)
        return Figure(angles, float(x), float(z), yaw)

    return Motion("fall", seconds, at, support=Support("chair", place.x, place.z))


def _from_bed(rng: np.random.Generator, place: Place) -> Motion:
    """Draw a person who lies on a bed and rolls or slides out of it towards the camera."""
    height = float(rng.uniform(0.35, 0.6))
    depth = float(rng.uniform(0.9, 1.3))
    pitch = -_FLAT if rng.random() < 0.7 else _FLAT
    facing = float(rng.choice([-1, 1]))
    yaw = facing * np.pi / 2 + float(rng.normal(0, 0.08))
    roll = -facing * float(rng.uniform(1.2, 3.0))  # the near side goes down first
    # Lying on the back, the head is behind the feet; lying on the front, it is before them.
    head = -facing if pitch < 0 else facing
    feet_x = place.x - 0.6 * head
    # The arms stay where they are: arms that swing under the body would prop it up.
    start_limbs = _lying_limbs(rng, (_FLAT, 0.0)) * _NARROW
    end_limbs = start_limbs + pose(hip_left=rng.uniform(0, 0.4), knee_left=rng.uniform(0, 0.6))
    seconds = float(rng.uniform(0.7, 2.0))
    edge = float(rng.uniform(0.3, 0.5))
    out = float(rng.uniform(0.55, 0.75))

    def at(u: float) -> Figure:
        dropped = float(np.clip((u - edge) / (0.85 - edge), 0.0, 1.0)) ** 2
        settled = smooth(u)
        turned = smooth(u / 0.9)
        angles = start_limbs * (1 - settled) + end_limbs * settled
        angles = angles + pose(
            pitch=pitch,
            roll=roll * turned,
        )
        z = place.z - out * smooth(u / 0.85)
        return Figure(angles, feet_x, float(z), yaw, lift=height * (1 - dropped))

    bed = Support("bed", feet_x + 0.8 * head, place.z - 0.25 + depth / 2, 2.05, depth, height)
    return Motion("fall", seconds, at, support=bed)


def before_wall(motion: Motion, wall_z: float) -> Motion:
    """Move a fall towards the camera until nobody falls through the wall."""
    deepest = -np.inf
    for u in (-motion.lead_seconds / motion.seconds, 0.0, 0.5, 0.8, 1.0):
        figure = motion.at(u)
        joints = joint_positions(figure.angles, _MEAN_BODY)
        world = world_positions(joints, figure.x, figure.z, figure.yaw)
        deepest = max(deepest, float(world[:, 2].max()))
    if motion.support is not None:
        deepest = max(deepest, motion.support.z + motion.support.depth / 2)
    over = deepest - (wall_z - _WALL_GAP)
    return motion.moved(0.0, -over) if over > 0 else motion
