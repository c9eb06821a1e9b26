"""Movements that look like actions: smooth, on the floor or a bed, and without an interval."""

import itertools

import numpy as np
import pytest

from train.synthetic.action_sequence import ActionSequence
from train.synthetic.motions.body import HEAD, random_body
from train.synthetic.motions.look_alikes import IN_PLACE, LOOK_ALIKES, draw_look_alike
from train.synthetic.motions.motion import Place
from train.synthetic.motions.reach import world_joints
from train.synthetic.script import clip_script

PLACE = Place(0.2, 4.5, 0.5, 6.5)
BODY = random_body(np.random.default_rng(0))


@pytest.mark.parametrize("kind", LOOK_ALIKES)
def test_no_look_alike_is_as_fast_as_a_fall(kind: str) -> None:
    for seed in range(6):
        motion = draw_look_alike(kind, np.random.default_rng(seed), PLACE)
        assert motion.label == "background"
        steps = np.arange(0.0, motion.seconds, 1 / 15)
        heads = np.array([world_joints(motion.at_time(t), BODY)[HEAD] for t in steps])
        down = -np.diff(heads[:, 1]) * 15
        assert down.max() < 2.6  # metres per second; a falling head reaches more
        assert np.linalg.norm(np.diff(heads, axis=0), axis=1).max() < 0.25


@pytest.mark.parametrize("kind", IN_PLACE)
def test_those_in_place_return_to_their_start(kind: str) -> None:
    motion = draw_look_alike(kind, np.random.default_rng(3), PLACE)
    first, last = motion.at(0.0), motion.at(1.0)
    np.testing.assert_allclose(first.angles, last.angles, atol=1e-6)
    assert (first.x, first.z, first.yaw) == (last.x, last.z, last.yaw)


@pytest.mark.parametrize("kind", ["lie_still", "turn_over", "lie_down_on_bed"])
def test_who_lies_on_a_bed_is_above_it(kind: str) -> None:
    beds = 0
    for seed in range(12):
        motion = draw_look_alike(kind, np.random.default_rng(seed), PLACE)
        if motion.support is None:
            continue
        beds += 1
        bed, points = motion.support, world_joints(motion.at(1.0), BODY)
        assert np.abs(points[:, 0] - bed.x).max() < bed.width / 2 + 0.1
        assert points[:, 1].min() > bed.height
        assert motion.at(1.0).z < bed.z  # so that the bed does not hide the person
    assert beds > 3


def test_who_lies_down_on_a_bed_is_as_high_as_the_bed() -> None:
    motion = draw_look_alike("lie_down_on_bed", np.random.default_rng(1), PLACE)
    assert motion.support is not None
    assert motion.at(0.0).lift == 0.0
    assert motion.at(1.0).lift == pytest.approx(motion.support.height)
    head = world_joints(motion.at(1.0), BODY)[HEAD]
    assert abs(head[0] - motion.support.x) < motion.support.width / 2


def test_a_dropped_object_lies_on_the_floor_afterwards() -> None:
    motion = draw_look_alike("drop_object", np.random.default_rng(1), PLACE)
    assert motion.at(0.0).carried is not None
    assert motion.at(1.0).carried is None
    assert motion.object_spot is not None


def test_recordings_have_look_alikes_between_the_actions_without_an_interval() -> None:
    spots = {"door": (0.0, 4.5), "chair": (1.0, 4.5), "near": (-1.0, 4.5), "far": (2.0, 4.5)}
    unlabelled = 0
    for seed in range(6):
        sequence = ActionSequence(np.random.default_rng(seed), PLACE, spots, 150.0)
        for one, other in itertools.pairwise(sequence.intervals):
            pause = other.start_seconds - one.end_seconds
            assert pause > 2.0
            unlabelled += pause > 6.5  # longer than the longest pause and walk before a fall
        figures = [sequence.at(t) for t in np.arange(0.0, 150.0, 1 / 15)]
        for before, after in itertools.pairwise(figures):
            if before is not None and after is not None:
                assert np.hypot(before.x - after.x, before.z - after.z) < 0.35
    assert unlabelled > 5


def test_background_clips_show_pairs_and_single_people() -> None:
    counts = set()
    for seed in range(40):
        script = clip_script("background", np.random.default_rng([seed, 1]))
        assert script.intervals == ()
        people = script.people(script.seconds / 2)
        counts.add(sum(person.figure.z < script.room.wall_z for person in people))
    assert {0, 1, 2} <= counts
