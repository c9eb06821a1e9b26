"""Draws the actions that one person performs in a recording, with pauses between them.

Movements that only look like actions happen between them.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from train.synthetic.actions import BACKGROUND, draw_motion, reverse
from train.synthetic.motions.falls import before_wall
from train.synthetic.motions.look_alikes import IN_PLACE, draw_look_alike
from train.synthetic.motions.motion import Figure, Motion, Place
from train.synthetic.people import objects_on_floor
from train.synthetic.truth import Interval

__all__ = ["ActionSequence"]

_State = Literal["absent", "standing", "lying", "sitting", "raised"]
# State of the person after these actions; after every other action the person is standing.
_STATE_AFTER: dict[str, _State] = {
    "fall": "lying",
    "sit_down": "sitting",
    "raise_arm": "raised",
    "leave": "absent",
}
# Before its next action the person moves from the held pose to the first pose of that action.
_CHANGE_BEGINS_SECONDS = 1.1
_CHANGE_SECONDS = 0.9
# A standing person sometimes makes another movement (`look_alikes.py`); it has no interval.
_LOOK_ALIKE_FRACTION = 0.2


class ActionSequence:
    """The actions of one person in a recording; each starts in the final pose of the previous one.

    Args:
        rng: random generator for all choices.
        place: positions of the door and the back wall; the spots replace its `x` and `z`.
        spots: positions (x, z) in metres where the person can act, by name; "door" and "chair" are
            required.
        seconds: length of the recording.
    """

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
        self._motions: list[tuple[float, Motion]] = []  # with the start of each
        self.intervals: list[Interval] = []
        self._spot = "door"
        self._state: _State = "absent"
        self._last: Motion | None = None
        self._carrying = False
        self._hand = 1
        clock = float(rng.uniform(1.0, 3.0))
        while True:
            motion = self._next()
            clock += motion.lead_seconds
            if clock + motion.seconds > seconds - 1.0:
                break
            self._motions.append((clock, motion))
            if motion.label != BACKGROUND:
                self.intervals.append(Interval(motion.label, clock, clock + motion.seconds))
            clock += motion.seconds + float(rng.uniform(2.2, 4.5))

    def at(self, t: float) -> Figure | None:
        """Return the person's figure at time t in seconds, or None while the person is away."""
        for index, (start, motion) in enumerate(self._motions):
            if t < start - motion.lead_seconds:
                return self._rest(index, t)
            if t < start + motion.seconds:
                return motion.at_time(t - start)
        return self._rest(len(self._motions), t)

    def on_floor(self, t: float) -> list[tuple[float, float]]:
        """Return the positions (x, z) in metres of objects on the floor at time t in seconds."""
        return objects_on_floor(self._motions)(t)

    def _rest(self, index: int, t: float) -> Figure | None:
        """Hold the last pose, then move smoothly to the first pose of the next action."""
        before = self._motions[index - 1] if index else None
        if before is None or before[1].label == "leave":
            return None
        held = before[1].at(1.0)
        if index == len(self._motions):
            return held
        start, motion = self._motions[index]
        start -= motion.lead_seconds
        part = float(np.clip((t - (start - _CHANGE_BEGINS_SECONDS)) / _CHANGE_SECONDS, 0, 1))
        part = part * part * (3 - 2 * part)
        first = motion.at_time(-motion.lead_seconds)
        turn = (first.yaw - held.yaw + np.pi) % (2 * np.pi) - np.pi
        return dataclasses.replace(
            first if part > 0.5 else held,
            angles=held.angles + (first.angles - held.angles) * part,
            x=held.x + (first.x - held.x) * part,
            z=held.z + (first.z - held.z) * part,
            yaw=held.yaw + turn * part,
        )

    def _next(self) -> Motion:
        if self._state in ("lying", "sitting", "raised") and self._last is not None:
            motion = _at_another_speed(reverse(self._last), self._rng)
            motion = dataclasses.replace(motion, trail_seconds=0.0)
            self._state = "standing"
        else:
            motion = self._from_standing()
        self._last = motion
        return self._keep_object(motion)

    def _from_standing(self) -> Motion:
        if self._state == "absent":
            self._state = "standing"
            self._spot = "door"
            return draw_motion("enter", self._rng, self._here())
        if self._rng.random() < _LOOK_ALIKE_FRACTION:
            return draw_look_alike(str(self._rng.choice(IN_PLACE)), self._rng, self._here())
        action = self._choose()
        if action == "walk":
            return self._walk()
        if action in ("pick_up", "put_down"):
            self._carrying = action == "pick_up"
        self._state = _STATE_AFTER.get(action, "standing")
        motion = draw_motion(action, self._rng, self._here())
        return self._from_here(motion) if motion.lead_seconds else motion

    def _from_here(self, motion: Motion) -> Motion:
        """Move a fall so that the walk before it starts where the person is."""
        here, first = self._here(), motion.at_time(-motion.lead_seconds)
        return before_wall(motion.moved(here.x - first.x, here.z - first.z), here.wall_z)

    def _choose(self) -> str:
        options = ["walk", "raise_arm", "fall", "put_down" if self._carrying else "pick_up"]
        if not self._carrying:
            options += {"door": ["leave"], "chair": ["sit_down"]}.get(self._spot, [])
        # Prefer actions that occurred rarely so far, so that a few minutes show every action.
        done = [
            sum(interval.label.startswith(option) for interval in self.intervals)
            for option in options
        ]
        weights = 1.0 / (1.0 + np.array(done)) ** 2
        return str(self._rng.choice(options, p=weights / weights.sum()))

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
        """Let the person carry a picked-up object until the person puts it down."""
        if motion.label == "pick_up":
            self._hand = motion.at(1.0).carried or 0
        if motion.label in ("pick_up", "put_down") or not self._carrying:
            return motion
        hand = self._hand
        return dataclasses.replace(
            motion, at=lambda u: dataclasses.replace(motion.at(u), carried=hand)
        )


def _at_another_speed(motion: Motion, rng: np.random.Generator) -> Motion:
    return dataclasses.replace(motion, seconds=motion.seconds * float(rng.uniform(0.85, 1.2)))
