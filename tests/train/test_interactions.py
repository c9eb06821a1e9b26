"""Interactions: hands and feet reach the other body, the other reacts, both are in the frame."""

import numpy as np
import pytest

from train.synthetic.actions import ALL_LABELS, INTERACTIONS, LABELS
from train.synthetic.motions.body import (
    ANKLES,
    HANDS,
    HEAD,
    HIPS,
    NECK,
    PELVIS,
    SHOULDERS,
    FloatArray,
)
from train.synthetic.motions.encounters import Encounter
from train.synthetic.motions.interactions import draw_interaction
from train.synthetic.motions.motion import Place
from train.synthetic.motions.pairs_background import draw_pair_background
from train.synthetic.motions.reach import world_joints
from train.synthetic.script import clip_script
from train.synthetic.truth import CLIP_SECONDS, MIN_ACTION_FRACTION

PLACE = Place(0.0, 6.0, 1.0, 10.0)
KNEES = tuple(hip + 2 for hip in HIPS)


def encounters(label: str, count: int = 12) -> list[Encounter]:
    return [draw_interaction(label, np.random.default_rng(seed), PLACE) for seed in range(count)]


def joints(encounter: Encounter, t: float) -> list[FloatArray]:
    figures = encounter.at(t)
    return [world_joints(f, b) for f, b in zip(figures, encounter.bodies, strict=True)]


def times(encounter: Encounter) -> FloatArray:
    return np.linspace(0.0, encounter.seconds, 80)


def distance(points: FloatArray, start: FloatArray, end: FloatArray) -> float:
    """The smallest distance of points [N, 3] from a line segment."""
    along = end - start
    part = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
    return float(np.linalg.norm(points - (start + part[:, None] * along), axis=1).min())


def level(one: FloatArray, two: FloatArray) -> float:
    return float(np.hypot(*(one - two)[[0, 2]]))


def test_labels_are_added_to_those_of_one_person() -> None:
    assert ALL_LABELS == LABELS + INTERACTIONS
    assert len(set(ALL_LABELS)) == 20


def test_a_push_touches_the_trunk_and_moves_the_other() -> None:
    for encounter in encounters("push"):
        shown = [joints(encounter, t) for t in times(encounter)]
        hands = list(HANDS)
        nearest = min(distance(a[hands], b[PELVIS], b[NECK]) for a, b in shown)
        assert nearest < 0.2
        gaps = [level(a[PELVIS], b[PELVIS]) for a, b in shown]
        assert gaps[-1] > min(gaps) + 0.25


def test_a_hit_reaches_head_or_trunk_and_the_head_jerks() -> None:
    for encounter in encounters("hit"):
        shown = [joints(encounter, t) for t in times(encounter)]
        nearest = min(distance(a[list(HANDS)], b[PELVIS], b[HEAD]) for a, b in shown)
        assert nearest < 0.2
        nods = [encounter.at(t)[1].angles[2:4] for t in times(encounter)]
        assert np.abs(np.ptp(nods, axis=0)).max() > 0.15


def test_a_kick_reaches_the_legs_or_the_trunk() -> None:
    for encounter in encounters("kick"):
        nearest = 9.0
        for t in times(encounter):
            a, b = joints(encounter, t)
            feet = a[[*ANKLES, *(ankle + 2 for ankle in ANKLES)]]
            bones = [(PELVIS, NECK), *zip(HIPS, KNEES, strict=True)]
            bones += zip(KNEES, ANKLES, strict=True)
            nearest = min(nearest, *(distance(feet, b[i], b[j]) for i, j in bones))
        assert nearest < 0.25


def test_in_a_hug_both_have_their_hands_on_the_others_back() -> None:
    for encounter in encounters("hug"):
        near = 0
        for t in times(encounter):
            a, b = joints(encounter, t)
            line = (b[PELVIS] - a[PELVIS])[[0, 2]]
            line = line / np.hypot(*line)
            behind = [(a[hand] - b[PELVIS])[[0, 2]] @ line > 0 for hand in HANDS]
            behind += [(b[hand] - a[PELVIS])[[0, 2]] @ line < 0 for hand in HANDS]
            near += all(behind) and level(a[PELVIS], b[PELVIS]) < 0.45
        assert near > 0.2 * len(times(encounter))


def test_right_hands_meet_in_a_handshake_and_go_up_and_down() -> None:
    for encounter in encounters("shake_hands"):
        meet = []
        for t in times(encounter):
            a, b = joints(encounter, t)
            if np.linalg.norm(a[HANDS[1]] - b[HANDS[1]]) < 0.06:
                meet.append(a[HANDS[1]][1])
        assert len(meet) > 0.3 * len(times(encounter))
        assert np.ptp(meet) > 0.02


def test_an_object_changes_hands_where_the_hands_meet() -> None:
    for encounter in encounters("hand_over"):
        holders = [[f.carried is not None for f in encounter.at(t)] for t in times(encounter)]
        assert holders[0] == [True, False]
        assert holders[-1] == [False, True]
        index = holders.index([False, True])
        t = times(encounter)[index]
        a, b = joints(encounter, t)
        given = encounter.at(times(encounter)[0])[0].carried
        taken = encounter.at(t)[1].carried
        assert given is not None
        assert taken is not None
        assert np.linalg.norm(a[HANDS[given]] - b[HANDS[taken]]) < 0.12


def test_who_points_stretches_an_arm() -> None:
    people = set()
    for encounter in encounters("point", 20):
        people.add(len(encounter.bodies))
        longest = 0.0
        for t in times(encounter):
            a = joints(encounter, t)[0]
            arms = [
                (a[hand] - a[shoulder]) / encounter.bodies[0].height_metres
                for hand, shoulder in zip(HANDS, SHOULDERS, strict=True)
            ]
            yaw = encounter.at(t)[0].yaw
            ahead = np.array([np.sin(yaw), 0.0, -np.cos(yaw)])
            longest = max(longest, *(float(arm @ ahead) for arm in arms))
        assert longest > 0.75 * 0.345
    assert people == {1, 2}


@pytest.mark.parametrize("label", INTERACTIONS)
def test_the_people_of_a_clip_are_in_its_frame_and_its_label_is_true(label: str) -> None:
    sides = set()
    for seed in range(10):
        script = clip_script(label, np.random.default_rng([seed, 5]))
        (interval,) = script.intervals
        seconds = interval.end_seconds - interval.start_seconds
        assert 0.6 <= seconds <= 2.2
        visible = min(seconds, CLIP_SECONDS)
        for start in (0.0, script.seconds - CLIP_SECONDS):
            shown = min(interval.end_seconds, start + CLIP_SECONDS) - max(
                interval.start_seconds, start
            )
            assert shown >= MIN_ACTION_FRACTION * visible - 1e-6
        count = 1 if label == "point" else 2
        for t in np.linspace(interval.start_seconds, interval.end_seconds, 7):
            people = script.people(float(t))[:count]
            for person in people:
                pixels = script.camera.project(world_joints(person.figure, person.body))
                assert (pixels > -0.03 * script.camera.width).all()
                assert (pixels < np.array([script.camera.width, script.camera.height]) * 1.03).all()
        if count == 2:
            sides.add(people[0].figure.x < people[1].figure.x)
    assert sides == (set() if label == "point" else {True, False})


def test_in_the_background_nobody_is_touched() -> None:
    """Hands stay away from the other's head and trunk."""
    for seed in range(40):
        pair = draw_pair_background(np.random.default_rng(seed), PLACE, 3.0)
        assert pair.label == "background"
        for t in np.linspace(0.0, 3.0, 20):
            a, b = joints(pair, float(t))
            if level(a[PELVIS], b[PELVIS]) > 0.55:
                assert distance(a[list(HANDS)], b[PELVIS], b[HEAD]) > 0.1


def test_the_natural_gait_bends_the_knee_of_the_leg_that_swings_forward() -> None:
    """Played backwards, the knee would bend while the leg goes back."""
    from train.synthetic.motions.walks import forward_gait

    for seed in range(5):
        moves = forward_gait(np.random.default_rng(seed))
        strides = np.linspace(0, 1, 200)
        poses = np.array([moves(float(s), 1.0) for s in strides])
        hip, knee = poses[:, 4], poses[:, 6]
        forward = np.gradient(hip) > 0
        assert knee[forward].mean() > 2 * knee[~forward].mean()
