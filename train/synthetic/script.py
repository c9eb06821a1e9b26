"""What happens when: the people of a clip or a recording as functions of time, and the truth
about them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from train.synthetic.actions import (
    BACKGROUND,
    Figure,
    Motion,
    Place,
    draw_motion,
    idle_sway,
    reverse,
)
from train.synthetic.body import FloatArray, random_body
from train.synthetic.stage import Camera, Person, Room, random_camera, random_room

__all__ = [
    "CLIP_SECONDS",
    "Interval",
    "Script",
    "clip_script",
    "recording_script",
    "training_segments",
]

CLIP_SECONDS = 32 / 15  # what the network sees at once
# Any window of a trimmed clip shows at least this share of the action ...
_SHOWN = 0.62
# ... and a window of a background clip at most this share.
_GLIMPSE = 0.18
_SIZES = ((640, 360),) * 5 + ((640, 480), (854, 480), (854, 480), (960, 540), (1280, 720))
_PASSER_SPEED = (0.7, 1.6)


@dataclasses.dataclass(frozen=True)
class Interval:
    """One action of the truth: `start_seconds <= t < end_seconds`."""

    label: str
    start_seconds: float
    end_seconds: float


@dataclasses.dataclass(frozen=True)
class Script:
    """A scene ready to film: who and what is there at any time, and the intervals in which
    something is done.
    """

    camera: Camera
    room: Room
    seconds: float
    people: Callable[[float], list[Person]]
    intervals: tuple[Interval, ...]
    on_floor: Callable[[float], list[tuple[float, float]]]


def clip_script(label: str, rng: np.random.Generator) -> Script:
    """A trimmed clip: every window of 32 frames in it deserves `label`."""
    return _background_clip(rng) if label == BACKGROUND else _action_clip(label, rng)


def recording_script(seconds: float, rng: np.random.Generator) -> Script:
    """An untrimmed recording: one person living through action after action, with rests and
    passers-by.
    """
    place, camera = _draw_place(rng)
    spots = _draw_spots(rng, place)
    place = dataclasses.replace(place, door_x=spots["door"][0])
    room = random_room(rng, place, chair_at=spots["chair"], door=True)
    timeline = _Timeline(rng, place, spots, seconds)
    people = _with_passers(rng, place, _actor(rng, timeline.at), seconds)
    return Script(camera, room, seconds, people, tuple(timeline.intervals), timeline.on_floor)


def training_segments(intervals: Sequence[Interval], seconds: float) -> list[Interval]:
    """A recording cut into parts of which, as of a trimmed clip, every window deserves the
    part's label.
    """
    segments = []
    rests = [0.0]  # alternating: where a rest begins, where it ends
    for interval in intervals:
        length = interval.end_seconds - interval.start_seconds
        margin = CLIP_SECONDS - _SHOWN * min(length, CLIP_SECONDS)
        segments.append(
            Interval(
                interval.label,
                max(0.0, interval.start_seconds - margin),
                min(seconds, interval.end_seconds + margin),
            )
        )
        glimpse = _GLIMPSE * min(length, CLIP_SECONDS)
        rests += [interval.start_seconds + glimpse, interval.end_seconds - glimpse]
    rests.append(seconds)
    for start, end in zip(rests[::2], rests[1::2], strict=True):
        if end - start >= CLIP_SECONDS:
            segments.append(Interval(BACKGROUND, start, end))
    return segments


def _action_clip(label: str, rng: np.random.Generator) -> Script:
    place, camera = _draw_place(rng)
    motion = _centred(draw_motion(label, rng, place))
    shown = min(motion.seconds, CLIP_SECONDS)
    before = CLIP_SECONDS - _SHOWN * shown
    seconds = 2 * before + motion.seconds
    people = _with_passers(rng, place, _actor(rng, _played(motion, before)), seconds)
    interval = Interval(label, before, before + motion.seconds)
    return Script(
        camera,
        _room_for(label, rng, place),
        seconds,
        people,
        (interval,),
        _left_on_floor([(before, motion)]),
    )


def _background_clip(rng: np.random.Generator) -> Script:
    kind = str(
        rng.choice(["hold", "hold", "idle", "empty", "towards", "glimpse", "glimpse", "turn"])
    )
    place, camera = _draw_place(rng)
    label = str(rng.choice(["fall", "sit_down", "raise_arm", "pick_up", "enter", "walk_right"]))
    seconds = CLIP_SECONDS + float(rng.uniform(0.3, 1.5))
    motion = _centred(draw_motion(label, rng, place))
    if rng.random() < 0.5:
        motion = reverse(motion)
    people = _with_passers(
        rng, place, _BACKGROUNDS[kind](rng, place, motion, seconds), seconds, often=0.5
    )
    return Script(camera, _room_for(label, rng, place), seconds, people, (), lambda t: [])


def _hold(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    end = float(rng.integers(2))
    return _actor(rng, lambda t: motion.at(end))


def _idle(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    end = float(rng.integers(2))
    return _actor(rng, lambda t: motion.at(end), strength=0.3)


def _empty(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    return lambda t: []


def _towards(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    """Walking straight to or from the camera: movement, but across nothing."""
    far = place.wall_z - 0.3
    near = place.wall_z - rng.uniform(1.2, 2.2)
    z0, z1 = (far, near) if rng.random() < 0.5 else (near, far)
    walk = draw_motion(
        "walk_right", rng, Place(0.0, 0.0, 0.0, place.wall_z), target=(seconds * 1.1, 0.0)
    )
    yaw = float(rng.choice([0.0, np.pi]))

    def at(t: float) -> Figure:
        u = t / seconds
        return dataclasses.replace(
            walk.at(0.2 + 0.6 * u), x=place.x, z=float(z0 + (z1 - z0) * u), yaw=yaw
        )

    return _actor(rng, at)


def _turn(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    """Turning round on the spot."""
    start = rng.uniform(-3, 3)
    middle = rng.uniform(0.3, 0.7) * seconds
    length = rng.uniform(0.5, 1.5)
    angle = float(rng.choice([-1, 1]) * rng.uniform(1.2, 3.2))
    base = (
        motion.at(0.0)
        if motion.label in ("raise_arm", "pick_up", "fall", "sit_down")
        else motion.at(1.0)
    )

    def at(t: float) -> Figure:
        return dataclasses.replace(
            base, yaw=float(start + angle * np.clip((t - middle) / length + 0.5, 0, 1))
        )

    return _actor(rng, at)


def _glimpse(
    rng: np.random.Generator, place: Place, motion: Motion, seconds: float
) -> Callable[[float], list[Person]]:
    """The very beginning of an action at the end of the clip, or its very end at the beginning."""
    share = rng.uniform(0.0, _GLIMPSE)
    offset = (
        -(1 - share) * motion.seconds if rng.random() < 0.5 else seconds - share * motion.seconds
    )
    return _actor(rng, _played(motion, offset))


_BACKGROUNDS = {
    "hold": _hold,
    "idle": _idle,
    "empty": _empty,
    "towards": _towards,
    "glimpse": _glimpse,
    "turn": _turn,
}


class _Timeline:
    """One person's actions over a recording; every action starts from where the last one ended."""

    def __init__(
        self,
        rng: np.random.Generator,
        place: Place,
        spots: dict[str, tuple[float, float]],
        seconds: float,
    ) -> None:
        self._rng = rng
        self._place = place
        self._spots = spots
        self._pieces: list[tuple[float, Motion]] = []
        self.intervals: list[Interval] = []
        self._spot = "door"
        self._state = "absent"
        self._last: Motion | None = None
        self._carrying = False
        self._hand = 1
        clock = float(rng.uniform(1.0, 3.0))
        while True:
            motion = self._next()
            if clock + motion.seconds > seconds - 1.0:
                break
            self._pieces.append((clock, motion))
            self.intervals.append(Interval(motion.label, clock, clock + motion.seconds))
            clock += motion.seconds + float(rng.uniform(2.2, 4.5))

    def at(self, t: float) -> Figure | None:
        """The person at time t, or None while they are away."""
        for index, (start, motion) in enumerate(self._pieces):
            if t < start:
                return self._rest(index, t)
            if t < start + motion.seconds:
                return motion.at((t - start) / motion.seconds)
        return self._rest(len(self._pieces), t)

    def on_floor(self, t: float) -> list[tuple[float, float]]:
        """Things waiting to be picked up or already put down, at time t."""
        return _left_on_floor(self._pieces)(t)

    def _rest(self, index: int, t: float) -> Figure | None:
        """Between two actions: hold the pose, then move smoothly into the next one's first pose."""
        before = self._pieces[index - 1] if index else None
        if before is None or before[1].label == "leave":
            return None
        held = before[1].at(1.0)
        if index == len(self._pieces):
            return held
        start, motion = self._pieces[index]
        part = float(np.clip((t - (start - 1.1)) / 0.9, 0, 1))
        part = part * part * (3 - 2 * part)
        first = motion.at(0.0)
        turn = (first.yaw - held.yaw + np.pi) % (2 * np.pi) - np.pi
        return dataclasses.replace(
            first if part > 0.5 else held,
            angles=held.angles + (first.angles - held.angles) * part,
            x=held.x + (first.x - held.x) * part,
            z=held.z + (first.z - held.z) * part,
            yaw=held.yaw + turn * part,
        )

    def _next(self) -> Motion:
        rng = self._rng
        if self._state in ("lying", "sitting", "raised") and self._last is not None:
            motion = _again(reverse(self._last), rng)
            self._state = "standing"
        else:
            motion = self._from_standing()
        self._last = motion
        return self._keep_object(motion)

    def _from_standing(self) -> Motion:
        rng = self._rng
        here = self._here()
        if self._state == "absent":
            self._state = "standing"
            self._spot = "door"
            return draw_motion("enter", rng, self._here())
        options = ["walk", "raise_arm", "fall", "put_down" if self._carrying else "pick_up"]
        if not self._carrying:
            options += {"door": ["leave"], "chair": ["sit_down"]}.get(self._spot, [])
        # What was done least so far is the likeliest, so that a few minutes show every action.
        done = [
            sum(interval.label.startswith(option) for interval in self.intervals)
            for option in options
        ]
        weights = 1.0 / (1.0 + np.array(done)) ** 2
        choice = str(rng.choice(options, p=weights / weights.sum()))
        if choice == "walk":
            return self._walk()
        if choice in ("pick_up", "put_down"):
            self._carrying = choice == "pick_up"
        self._state = {
            "fall": "lying",
            "sit_down": "sitting",
            "raise_arm": "raised",
            "leave": "absent",
        }.get(choice, "standing")
        return draw_motion(choice, rng, here)

    def _walk(self) -> Motion:
        here = self._here()
        goal = str(self._rng.choice([name for name in self._spots if name != self._spot]))
        x, z = self._spots[goal]
        self._spot = goal
        if x > here.x:
            return draw_motion("walk_right", self._rng, here, target=(x, z))
        there = dataclasses.replace(here, x=x, z=z)
        return draw_motion("walk_left", self._rng, there, target=(here.x, here.z))

    def _here(self) -> Place:
        x, z = self._spots[self._spot]
        return dataclasses.replace(self._place, x=x, z=z)

    def _keep_object(self, motion: Motion) -> Motion:
        """What is picked up stays in the hand until it is put down."""
        if motion.label == "pick_up":
            self._hand = motion.at(1.0).carried or 0
        if motion.label in ("pick_up", "put_down") or not self._carrying:
            return motion
        hand = self._hand
        return dataclasses.replace(
            motion, at=lambda u: dataclasses.replace(motion.at(u), carried=hand)
        )


def _played(motion: Motion, start: float) -> Callable[[float], Figure]:
    """The motion as a function of time: its first pose before `start`, its last after it has
    ended.
    """
    return lambda t: motion.at(float(np.clip((t - start) / motion.seconds, 0, 1)))


def _left_on_floor(
    pieces: list[tuple[float, Motion]],
) -> Callable[[float], list[tuple[float, float]]]:
    """Where objects lie at time t: before they are picked up and after they were put down."""

    def at(t: float) -> list[tuple[float, float]]:
        played = ((motion, _played(motion, start)(t)) for start, motion in pieces)
        return [
            motion.object_spot
            for motion, figure in played
            if motion.object_spot and figure.carried is None
        ]

    return at


def _again(motion: Motion, rng: np.random.Generator) -> Motion:
    """The same motion at another speed."""
    return dataclasses.replace(motion, seconds=motion.seconds * float(rng.uniform(0.85, 1.2)))


def _actor(
    rng: np.random.Generator, at: Callable[[float], Figure | None], strength: float | None = None
) -> Callable[[float], list[Person]]:
    """Give a figure a body, clothes and idle movement."""
    sway = idle_sway(rng, float(rng.uniform(0.02, 0.12)) if strength is None else strength)
    figure_body = random_body(rng)

    def people(t: float) -> list[Person]:
        figure = at(t)
        if figure is None:
            return []
        angles: FloatArray = figure.angles + sway(t)
        return [Person(dataclasses.replace(figure, angles=angles), figure_body)]

    return people


def _with_passers(
    rng: np.random.Generator,
    place: Place,
    people: Callable[[float], list[Person]],
    seconds: float,
    often: float = 0.25,
) -> Callable[[float], list[Person]]:
    """Add people who pass behind the wall, seen through door and windows."""
    passers = [
        _passer(rng, place, seconds)
        for _ in range(int(rng.poisson(often * max(1.0, seconds / 12))))
    ]
    return lambda t: [person for group in (people, *passers) for person in group(t)]


def _passer(
    rng: np.random.Generator, place: Place, seconds: float
) -> Callable[[float], list[Person]]:
    z = place.wall_z + float(rng.uniform(1.5, 5.0))
    middle = float(rng.uniform(0, seconds))
    speed = float(rng.uniform(*_PASSER_SPEED) * rng.choice([-1, 1]))
    walk = draw_motion(
        "walk_right", rng, Place(0.0, z, 0.0, place.wall_z), target=(abs(speed) * 20, z)
    )

    def at(t: float) -> Figure | None:
        if abs(t - middle) > 6:
            return None
        figure = walk.at(float(np.clip(0.5 + (t - middle) / 20, 0, 1)))
        return dataclasses.replace(figure, x=place.door_x + speed * (t - middle), z=z)

    return _actor(rng, at)


def _draw_place(rng: np.random.Generator) -> tuple[Place, Camera]:
    width, height = _SIZES[int(rng.integers(len(_SIZES)))]
    z = float(rng.uniform(4.0, 5.8))
    camera = random_camera(rng, width, height, z)
    reach = 0.25 * width / camera.focal_pixels * z
    place = Place(
        float(rng.uniform(-reach, reach)),
        z,
        float(rng.uniform(-0.8, 0.8) * reach),
        z + float(rng.uniform(0.7, 1.5)),
    )
    return place, camera


def _draw_spots(rng: np.random.Generator, place: Place) -> dict[str, tuple[float, float]]:
    """Door, chair and two free spots (x, z), about a metre apart from left to right, in random
    order.
    """
    names = [str(name) for name in rng.permutation(["door", "chair", "near", "far"])]
    columns = (np.arange(4) - 1.5) * rng.uniform(0.88, 1.0) + rng.uniform(-0.05, 0.05, 4)
    return {
        name: (float(x), place.z + float(rng.normal(0, 0.1)))
        for name, x in zip(names, columns, strict=True)
    }


def _room_for(label: str, rng: np.random.Generator, place: Place) -> Room:
    chair_at = (
        (place.x, place.z) if label in ("sit_down", "stand_up") or rng.random() < 0.25 else None
    )
    door = label in ("enter", "leave") or rng.random() < 0.6
    if chair_at is not None and label not in ("sit_down", "stand_up"):
        chair_at = (place.x + float(rng.choice([-1, 1]) * rng.uniform(0.7, 1.4)), place.z + 0.2)
    return random_room(rng, place, chair_at=chair_at, door=door)


def _centred(motion: Motion) -> Motion:
    """Walks start at the drawn place; shift them so that the place is in the middle of the path."""
    if motion.label not in ("walk_left", "walk_right"):
        return motion
    shift = (motion.at(0.0).x + motion.at(1.0).x) / 2 - min(motion.at(0.0).x, motion.at(1.0).x)
    return dataclasses.replace(
        motion, at=lambda u: dataclasses.replace(motion.at(u), x=motion.at(u).x - shift)
    )
