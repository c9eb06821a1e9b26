"""Draws the interactions of two people: push, hit, kick, hug, shake hands, hand over, point."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from train.synthetic.motions import touch
from train.synthetic.motions.body import FloatArray, pose
from train.synthetic.motions.encounters import Encounter, Hold, Plan, stage, still
from train.synthetic.motions.motion import Place
from train.synthetic.motions.poses import bump, smooth, track
from train.synthetic.motions.reactions import doubled_over, jerked, thrown_back

__all__ = ["draw_interaction"]

_SECONDS = (0.6, 2.2)
_HAND_ASIDE = 0.13  # metres of each hand from the middle of the other's trunk


def draw_interaction(label: str, rng: np.random.Generator, place: Place) -> Encounter:
    """Draw an interaction, one of `INTERACTIONS`, around `place`."""
    slow = label in ("hug", "shake_hands", "hand_over")
    seconds = float(rng.uniform(1.1 if slow else _SECONDS[0], _SECONDS[1]))
    return stage(label, _PLANS[label](rng, seconds), seconds, rng, place)


def _push(rng: np.random.Generator, seconds: float) -> Plan:
    contact = float(rng.uniform(0.25, 0.4))
    hands = (0, 1) if rng.random() < 0.75 else (int(rng.integers(2)),)
    height = float(rng.uniform(0.55, 0.85))
    press = track((contact - 0.2, 0.0), (contact, 1.0), (contact + 0.12, 1.0), (0.85, 0.0))
    holds = tuple(
        Hold(0, hand, functools.partial(touch.chest, height=height, aside=_aside(hand)), press)
        for hand in hands
    )
    lean = float(rng.uniform(0.2, 0.45))
    legs = float(rng.uniform(0.15, 0.4))

    def pushes(u: float) -> FloatArray:
        drawn_back = bump(u, contact - 0.18, 0.2)
        return lean * press(u) * pose(lean=1.0) + pose(
            hip_left=legs * press(u),
            knee_left=1.3 * legs * press(u),
            hip_right=-0.8 * legs * press(u),
            **{f"elbow_{name}": 1.4 * drawn_back for name in ("left", "right")},
            **{f"shoulder_{name}": -0.2 * drawn_back for name in ("left", "right")},
        )

    force = float(rng.uniform(0.6, 1.3))
    stagger = track((contact, 0.0), (contact + 0.35 / seconds + 0.15, force * 0.7))
    step = float(rng.uniform(0.0, 0.2))
    return Plan(
        gap=float(rng.uniform(0.5, 0.66)),
        poses=(pushes, thrown_back(rng, contact + 0.05, seconds, force=force)),
        retreats=(track((0.0, step), (contact, 0.0)), stagger),
        holds=holds,
    )


def _hit(rng: np.random.Generator, seconds: float) -> Plan:
    contacts = _contacts(rng, seconds)
    hand = int(rng.integers(2))
    side = ("left", "right")[hand]
    at_head = rng.random() < 0.65
    body = functools.partial(touch.chest, height=0.7, aside=0.0)
    target = touch.head if at_head else body
    quick = 0.16 / seconds + 0.04
    strikes = [
        track((c - quick, 0.0), (c, 1.0), (c + 0.03, 1.0), (c + 2 * quick, 0.0)) for c in contacts
    ]
    overhead = rng.random() < 0.3
    wind_up = pose(
        **{
            f"shoulder_{side}": 2.4 if overhead else -0.5,
            f"elbow_{side}": 1.0 if overhead else 1.9,
            f"abduction_{side}": 0.3,
        }
    )
    guard = pose(**{f"shoulder_{('right', 'left')[hand]}": 0.6})
    guard = guard + pose(**{f"elbow_{('right', 'left')[hand]}": 1.5 * float(rng.integers(2))})
    lean = float(rng.uniform(0.1, 0.35))

    def hits(u: float) -> FloatArray:
        hitting = sum(strike(u) for strike in strikes)
        raised = max(bump(u, c - 1.4 * quick, 1.6 * quick) for c in contacts)
        return wind_up * raised + pose(lean=lean * hitting) + guard * bump(u, contacts[0], 0.5)

    force = float(rng.uniform(0.15, 0.45))
    return Plan(
        gap=float(rng.uniform(0.5, 0.64)),
        poses=(hits, jerked(rng, contacts, seconds, at_head=at_head)),
        retreats=(lambda u: 0.0, track((contacts[0], 0.0), (contacts[0] + 0.4, force))),
        holds=tuple(Hold(0, hand, target, strike) for strike in strikes),
    )


def _kick(rng: np.random.Generator, seconds: float) -> Plan:
    contacts = _contacts(rng, seconds)
    side = str(rng.choice(["left", "right"]))
    other = "right" if side == "left" else "left"
    high = float(rng.uniform(0.85, 1.4))
    quick = 0.2 / seconds + 0.05
    lean = float(rng.uniform(-0.35, 0.05))

    def kicks(u: float) -> FloatArray:
        swung = 0.0
        drawn = 0.0
        for c in contacts:
            swung += track((c - quick, 0.0), (c, 1.0), (c + 0.03, 1.0), (c + 2 * quick, 0.0))(u)
            drawn += bump(u, c - 1.1 * quick, 1.3 * quick)
        return pose(
            lean=lean * swung,
            **{f"hip_{side}": high * swung - 0.4 * drawn, f"knee_{side}": 1.2 * drawn},
            **{f"hip_{other}": -0.15 * swung, f"knee_{other}": 0.15 * swung},
            abduction_left=0.5 * swung,
            abduction_right=0.4 * swung,
            **{f"shoulder_{other}": 0.6 * swung, f"elbow_{other}": 0.6 * swung},
        )

    force = float(rng.uniform(0.15, 0.5))
    return Plan(
        gap=float(0.8 * np.sin(high) + rng.uniform(0.0, 0.1)),
        poses=(kicks, doubled_over(rng, contacts, seconds)),
        retreats=(lambda u: 0.0, track((contacts[0], 0.0), (contacts[0] + 0.4, force))),
    )


def _hug(rng: np.random.Generator, seconds: float) -> Plan:
    closed = float(rng.uniform(0.35, 0.5))
    around = track((closed - 0.22, 0.0), (closed, 1.0), (0.85, 1.0), (1.05, 0.0))
    start = float(rng.uniform(0.1, 0.4))
    near = track((0.0, start), (closed - 0.05, 0.0), (0.9, 0.0), (1.1, start * 0.8))
    opening = pose(
        shoulder_left=0.8, shoulder_right=0.9, abduction_left=0.7, abduction_right=0.6
    ) * float(rng.uniform(0.6, 1.2))
    lean = float(rng.uniform(0.05, 0.2))

    def hugs(u: float) -> FloatArray:
        open_arms = bump(u, closed - 0.2, 0.25)
        return opening * open_arms + pose(lean=lean * around(u), nod=0.3 * around(u))

    heights = rng.permutation([0.75, 0.45])
    holds = tuple(
        Hold(
            person,
            hand,
            functools.partial(
                touch.back,
                height=float(heights[(hand + person) % 2]),
                aside=_aside(hand),
            ),
            around,
        )
        for person in (0, 1)
        for hand in (0, 1)
    )
    return Plan(
        gap=float(rng.uniform(0.27, 0.36)),
        poses=(hugs, hugs),
        retreats=(near, near),
        holds=holds,
        aside=float(rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)),
    )


def _shake_hands(rng: np.random.Generator, seconds: float) -> Plan:
    height = float(rng.uniform(0.76, 0.88))
    swing = float(rng.uniform(0.02, 0.07))
    rate = float(rng.uniform(1.8, 3.5)) * seconds
    grip = float(rng.uniform(0.25, 0.38))
    late = float(rng.uniform(0.0, 0.08))
    lean = float(rng.uniform(0.02, 0.2))

    def target(own: FloatArray, other: FloatArray, u: float) -> FloatArray:
        shaking = smooth((u - grip) / 0.1) * swing
        raised = height + shaking * np.sin(2 * np.pi * rate * u)
        return touch.between(own, other, u, height=raised)

    def amount(delay: float) -> Callable[[float], float]:
        return track((0.02 + delay, 0.0), (grip, 1.0), (0.8, 1.0), (1.02, 0.0))

    def bows(u: float) -> FloatArray:
        return pose(lean=lean * bump(u, 0.5, 0.5))

    return Plan(
        gap=float(rng.uniform(0.58, 0.76)),
        poses=(bows, bows),
        holds=(
            Hold(0, 1, target, amount(0.0)),
            Hold(1, 1, target, amount(late)),
        ),
    )


def _hand_over(rng: np.random.Generator, seconds: float) -> Plan:
    passed = float(rng.uniform(0.45, 0.6))
    hands = (int(rng.integers(2)), int(rng.integers(2)))
    height = float(rng.uniform(0.76, 0.95))
    gives = track((0.05, 0.0), (passed - 0.08, 1.0), (passed + 0.05, 1.0), (passed + 0.3, 0.0))
    takes = track((0.12, 0.0), (passed - 0.03, 1.0), (passed + 0.05, 1.0), (1.0, 0.0))
    sides = [("left", "right")[hand] for hand in hands]
    bend = float(rng.uniform(0.8, 1.5))

    def giving(u: float) -> FloatArray:
        return pose(**{f"elbow_{sides[0]}": bend * (1 - smooth((u - passed) / 0.3))})

    def taking(u: float) -> FloatArray:
        kept = smooth((u - passed) / 0.4)
        return pose(lean=0.1 * takes(u), **{f"elbow_{sides[1]}": bend * kept})

    return Plan(
        gap=float(rng.uniform(0.58, 0.78)),
        poses=(giving, taking),
        holds=(
            Hold(0, hands[0], functools.partial(touch.between, height=height), gives),
            Hold(1, hands[1], functools.partial(touch.between, height=height), takes),
        ),
        carrier=lambda u: (0, hands[0]) if u < passed else (1, hands[1]),
    )


def _point(rng: np.random.Generator, seconds: float) -> Plan:
    hand = int(rng.integers(2))
    up = float(rng.uniform(0.2, 0.4))
    shown = track((0.0, 0.0), (up, 1.0), (float(rng.uniform(0.65, 0.8)), 1.0), (1.0, 0.0))
    rise = float(rng.uniform(-0.3, 0.6))
    aside = float(rng.uniform(-0.5, 0.5))
    alone = bool(rng.random() < 0.4)

    target = functools.partial(touch.ahead, hand=hand, aside=aside, rise=3.0 * rise / 2)
    nods = float(rng.uniform(-0.1, 0.2))
    return Plan(
        gap=0.0 if alone else float(rng.uniform(0.9, 1.9)),
        poses=(lambda u: pose(lean=0.1 * nods * shown(u)), still),
        holds=(Hold(0, hand, target, shown),),
        alone=alone,
    )


def _contacts(rng: np.random.Generator, seconds: float) -> list[float]:
    """Draw the progress at which one blow, or two in a long action, reach the other person."""
    if seconds > 1.3 and rng.random() < 0.4:
        return [float(rng.uniform(0.25, 0.32)), float(rng.uniform(0.62, 0.72))]
    return [float(rng.uniform(0.32, 0.5))]


def _aside(hand: int) -> float:
    return _HAND_ASIDE if hand == 1 else -_HAND_ASIDE


_PLANS: dict[str, Callable[[np.random.Generator, float], Plan]] = {
    "push": _push,
    "hit": _hit,
    "kick": _kick,
    "hug": _hug,
    "shake_hands": _shake_hands,
    "hand_over": _hand_over,
    "point": _point,
}
