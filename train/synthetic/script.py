"""Draws the script of a video: room, camera, people over time, and the times of actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from train.synthetic.action_sequence import ActionSequence
from train.synthetic.actions import BACKGROUND, INTERACTIONS, draw_motion, reverse
from train.synthetic.background import (
    draw_background_kind,
    draw_background_people,
    draw_quiet_people,
)
from train.synthetic.framing import draw_pair_place, frame_pair, in_view
from train.synthetic.motions.encounters import Encounter
from train.synthetic.motions.interactions import draw_interaction
from train.synthetic.motions.look_alikes import LOOK_ALIKES, draw_look_alike
from train.synthetic.motions.motion import Motion, Place, Support
from train.synthetic.motions.pairs_background import draw_pair_background
from train.synthetic.people import (
    PeopleAt,
    SpotsAt,
    actor,
    objects_on_floor,
    pair,
    play,
    with_bystander,
    with_company,
    with_passers_by,
)
from train.synthetic.truth import CLIP_SECONDS, MIN_ACTION_FRACTION, Interval
from train.synthetic.view.camera import Camera, random_camera
from train.synthetic.view.drawing import Frame, colour_of
from train.synthetic.view.room import Block, Room, random_room

__all__ = ["Script", "clip_script", "quiet_script", "recording_script"]

# Width and height of videos in pixels; sizes that are listed more often are drawn more often.
_SIZES = ((640, 360),) * 5 + ((640, 480), (854, 480), (854, 480), (960, 540), (1280, 720))


@dataclasses.dataclass(frozen=True)
class Script:
    """A scene that can be filmed: people and objects over time, and the times of actions."""

    camera: Camera
    room: Room
    seconds: float
    people: PeopleAt
    intervals: tuple[Interval, ...]
    on_floor: SpotsAt
    frame_at: Callable[[float], Frame] | None = None  # paints the frames in place of `room`


def clip_script(label: str, rng: np.random.Generator) -> Script:
    """Draw a trimmed video; `label` is correct for every clip of 32 frames in the video.

    Args:
        label: one of `ALL_LABELS`.
    """
    if label in INTERACTIONS:
        return _interaction_script(label, rng)
    return _background_script(rng) if label == BACKGROUND else _action_script(label, rng)


def recording_script(seconds: float, rng: np.random.Generator) -> Script:
    """Draw an untrimmed recording: one person performs several actions, and others pass by."""
    # The person moves from side to side: a camera too close would lose sight of it.
    place, camera = _draw_place(rng, max_fraction=0.75)
    spots = _draw_spots(rng, place)
    place = dataclasses.replace(place, door_x=spots["door"][0])
    room = random_room(rng, place, chair_at=spots["chair"], door=True)
    sequence = ActionSequence(rng, place, spots, seconds)
    people = actor(rng, sequence.at)
    if rng.random() < 0.4:
        people = with_company(rng, place, people, seconds)
    people = with_passers_by(rng, place, people, seconds)
    return Script(camera, room, seconds, people, tuple(sequence.intervals), sequence.on_floor)


def quiet_script(seconds: float, rng: np.random.Generator) -> Script:
    """Draw an untrimmed recording in which none of the actions happens."""
    place, camera = _draw_place(rng)
    label = str(rng.choice(["fall", "sit_down", "raise_arm", "pick_up"]))
    motion = draw_motion(label, rng, place)
    stands = bool(rng.random() < 0.6)  # before the action; otherwise lies, sits, or holds up an arm
    people = draw_quiet_people(rng, motion.at(0.0 if stands else 1.0), seconds, turns=stands)
    people = with_passers_by(rng, place, people, seconds)
    return Script(camera, _room_for(label, rng, place), seconds, people, (), lambda t: [])


def _action_script(label: str, rng: np.random.Generator) -> Script:
    place, camera = _draw_place(rng)
    motion = _centred(draw_motion(label, rng, place, furniture=True))
    if label in ("fall", "get_up") and rng.random() < 0.85:
        motion = in_view(motion, camera)
    visible = min(motion.seconds, CLIP_SECONDS)
    before = CLIP_SECONDS - MIN_ACTION_FRACTION * visible
    seconds = 2 * before + motion.seconds
    people = with_passers_by(rng, place, actor(rng, play(motion, before)), seconds)
    room = _room_for(label, rng, place, motion.support)
    interval = Interval(label, before, before + motion.seconds)
    on_floor = objects_on_floor([(before, motion)])
    return Script(camera, room, seconds, people, (interval,), on_floor)


def _interaction_script(label: str, rng: np.random.Generator) -> Script:
    place = draw_pair_place(rng)
    encounter = draw_interaction(label, rng, place)
    before = CLIP_SECONDS - MIN_ACTION_FRACTION * min(encounter.seconds, CLIP_SECONDS)
    seconds = 2 * before + encounter.seconds
    interval = Interval(label, before, before + encounter.seconds)
    return _pair_script(encounter, rng, place, before, seconds, (interval,))


def _pair_background_script(rng: np.random.Generator) -> Script:
    place = draw_pair_place(rng)
    seconds = CLIP_SECONDS + float(rng.uniform(0.3, 1.5))
    encounter = draw_pair_background(rng, place, seconds)
    return _pair_script(encounter, rng, place, 0.0, seconds, ())


def _pair_script(
    encounter: Encounter,
    rng: np.random.Generator,
    place: Place,
    start: float,
    seconds: float,
    intervals: tuple[Interval, ...],
) -> Script:
    """Film an encounter that starts at `start` seconds, sometimes with others behind."""
    camera = frame_pair(rng, encounter, place, start, seconds)
    people = pair(rng, encounter, start)
    if rng.random() < 0.2:
        people = with_bystander(rng, place, people)
    people = with_passers_by(rng, place, people, seconds)
    room = random_room(rng, place, chair_at=None, door=bool(rng.random() < 0.3))
    return Script(camera, room, seconds, people, intervals, lambda t: [])


def _background_script(rng: np.random.Generator) -> Script:
    kind = draw_background_kind(rng)
    if kind == "pair":
        return _pair_background_script(rng)
    if kind == "look_alike":
        return _look_alike_script(rng)
    place, camera = _draw_place(rng)
    label = str(rng.choice(["fall", "sit_down", "raise_arm", "pick_up", "enter", "walk_right"]))
    seconds = CLIP_SECONDS + float(rng.uniform(0.3, 1.5))
    motion = _centred(draw_motion(label, rng, place))
    if rng.random() < 0.5:
        motion = reverse(motion)
    # A walk before or after a fall would be an action of its own here.
    motion = dataclasses.replace(motion, lead_seconds=0.0, trail_seconds=0.0)
    background = draw_background_people(kind, rng, place, motion, seconds)
    people = with_passers_by(rng, place, background, seconds, rate=0.5)
    room = _room_for(label, rng, place)
    return Script(camera, room, seconds, people, (), lambda t: [])


def _look_alike_script(rng: np.random.Generator) -> Script:
    place, camera = _draw_place(rng)
    place = dataclasses.replace(place, wall_z=place.wall_z + float(rng.uniform(0.4, 1.2)))
    motion = draw_look_alike(str(rng.choice(LOOK_ALIKES)), rng, place)
    seconds = CLIP_SECONDS + float(rng.uniform(0.3, 1.5))
    start = float(rng.uniform(0, 1)) * (seconds - motion.seconds)
    people = with_passers_by(rng, place, actor(rng, play(motion, start)), seconds)
    room = _room_for(BACKGROUND, rng, place, motion.support)
    return Script(camera, room, seconds, people, (), objects_on_floor([(start, motion)]))


def _draw_place(rng: np.random.Generator, *, max_fraction: float = 1.0) -> tuple[Place, Camera]:
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    z = float(rng.uniform(4.0, 5.8))
    camera = random_camera(rng, width, height, z, max_fraction=max_fraction)
    reach = 0.25 * width / camera.focal_pixels * z
    place = Place(
        x=float(rng.uniform(-reach, reach)),
        z=z,
        door_x=float(rng.uniform(-0.8, 0.8) * reach),
        wall_z=z + float(rng.uniform(0.7, 1.5)),
    )
    return place, camera


def _draw_spots(rng: np.random.Generator, place: Place) -> dict[str, tuple[float, float]]:
    """Draw positions (x, z) for door, chair and two free spots, about a metre apart."""
    names = [str(name) for name in rng.permutation(["door", "chair", "near", "far"])]
    columns = (np.arange(4) - 1.5) * rng.uniform(0.88, 1.0) + rng.uniform(-0.05, 0.05, 4)
    return {
        name: (float(x), place.z + float(rng.normal(0, 0.1)))
        for name, x in zip(names, columns, strict=True)
    }


def _room_for(
    label: str, rng: np.random.Generator, place: Place, support: Support | None = None
) -> Room:
    """Draw a room with the furniture or door that the action needs; others are added at random."""
    needs_chair = label in ("sit_down", "stand_up")
    chair_at = (place.x, place.z) if needs_chair or rng.random() < 0.25 else None
    door = label in ("enter", "leave") or rng.random() < 0.6
    if chair_at is not None and not needs_chair:
        chair_at = (place.x + float(rng.choice([-1, 1]) * rng.uniform(0.7, 1.4)), place.z + 0.2)
    if support is not None and support.kind == "chair":
        chair_at = (support.x, support.z)
    # Random furniture could stand in front of a bed, or where somebody rolls out of it.
    room = random_room(rng, place, chair_at=chair_at, door=door, furniture=support is None)
    if support is None or support.kind != "bed":
        return room
    colour = colour_of(rng.uniform(40, 235, 3))
    bed = Block(support.x, support.z, support.width, support.depth, support.height, colour)
    return dataclasses.replace(room, chair=None, blocks=(*room.blocks, bed))


def _centred(motion: Motion) -> Motion:
    """Shift a walk so that the middle of its path is at the original start position."""
    if motion.label not in ("walk_left", "walk_right"):
        return motion
    start = motion.at(0.0).x
    end = motion.at(1.0).x
    shift = (start + end) / 2 - min(start, end)
    return dataclasses.replace(
        motion, at=lambda u: dataclasses.replace(motion.at(u), x=motion.at(u).x - shift)
    )
