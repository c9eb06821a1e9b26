"""Falls: of many kinds, faster and faster, to the floor, and in front of the wall."""

import numpy as np
import pytest

from train.synthetic.actions import draw_motion
from train.synthetic.motions.body import ANKLES, HEAD, FloatArray, random_body
from train.synthetic.motions.falls import fall
from train.synthetic.motions.motion import Motion, Place
from train.synthetic.motions.reach import world_joints
from train.synthetic.script import clip_script

PLACE = Place(0.2, 4.5, 0.5, 5.4)
BODY = random_body(np.random.default_rng(0))
FALLS = [fall(np.random.default_rng(seed), PLACE, furniture=True) for seed in range(160)]


def heads(motion: Motion, progress: FloatArray) -> FloatArray:
    return np.array([world_joints(motion.at(float(u)), BODY)[HEAD] for u in progress])


def test_everybody_ends_on_the_floor_in_front_of_the_wall() -> None:
    for motion in FALLS:
        assert motion.label == "fall"
        assert 0.5 <= motion.seconds <= 2.0
        first, last = motion.at(0.0), motion.at(1.0)
        assert last.lift == 0.0
        assert heads(motion, np.array([1.0]))[0, 1] < 0.75
        assert world_joints(last, BODY)[:, 2].max() < PLACE.wall_z
        assert (first.x, first.z) != (last.x, last.z) or motion.support is None


def test_falls_start_standing_walking_sitting_and_in_bed() -> None:
    standing = [m for m in FALLS if m.support is None]
    beds = [m for m in FALLS if m.support is not None and m.support.kind == "bed"]
    chairs = [m for m in FALLS if m.support is not None and m.support.kind == "chair"]
    assert min(len(standing), len(beds), len(chairs)) > 8
    assert all(heads(m, np.array([0.0]))[0, 1] > 1.2 for m in standing)
    for motion in beds:
        assert motion.support is not None
        assert motion.at(0.0).lift == pytest.approx(motion.support.height)
        lying = world_joints(motion.at(0.0), BODY)[[HEAD, *ANKLES], 0]
        assert np.abs(lying - motion.support.x).max() < motion.support.width / 2
        front = motion.support.z - motion.support.depth / 2
        assert motion.at(1.0).z < front < motion.at(0.0).z
    walking = [m for m in standing if m.lead_seconds > 0]
    assert len(walking) > 15
    for motion in walking:
        before, start = motion.at_time(-0.3), motion.at(0.0)
        assert 0.15 < np.hypot(before.x - start.x, before.z - start.z) < 0.45


def test_the_body_goes_in_every_direction() -> None:
    ends = np.array([motion.at(1.0).angles[:2] for motion in FALLS])
    assert {(p > 1.2, p < -1.2) for p in ends[:, 0]} == {(1, 0), (0, 1), (0, 0)}
    assert (ends[:, 1] > 1.2).any()
    assert (ends[:, 1] < -1.2).any()
    diagonal = (np.abs(ends[:, 0]) > 0.35) & (np.abs(ends[:, 0]) < 1.1)
    assert diagonal.sum() > 8


def test_a_stiff_body_falls_faster_and_faster() -> None:
    """Half of the head's way down takes more than half of the time, as under gravity."""
    late = 0
    motions = [m for m in FALLS if m.support is None and m.seconds < 1.3]
    for motion in motions:
        progress = np.linspace(0, 1, 60)
        height = heads(motion, progress)[:, 1]
        landed = progress[height < height[-1] + 0.1][0]
        halfway = progress[height < (height[0] + height[-1]) / 2][0]
        late += halfway > 0.55 * landed
    assert late > 0.9 * len(motions)


def test_nobody_jumps_from_one_place_to_another() -> None:
    for motion in FALLS:
        steps = np.arange(-motion.lead_seconds, motion.seconds, 1 / 60)
        way = heads(motion, steps / motion.seconds)
        assert np.linalg.norm(np.diff(way, axis=0), axis=1).max() < 0.35


def test_getting_up_ends_with_the_walk_before_the_fall() -> None:
    for seed in range(40):
        down = draw_motion("fall", np.random.default_rng(seed), PLACE)
        up = draw_motion("get_up", np.random.default_rng(seed), PLACE)
        assert (up.lead_seconds, up.trail_seconds) == (0.0, down.lead_seconds)
        before, after = down.at_time(-0.2), up.at_time(up.seconds + 0.2)
        np.testing.assert_allclose((before.x, before.z), (after.x, after.z), atol=1e-9)


def test_most_falls_of_clips_end_in_the_frame() -> None:
    inside = []
    for seed in range(30):
        script = clip_script("fall", np.random.default_rng([seed, 3]))
        person = script.people(script.intervals[0].end_seconds)[0]
        columns = script.camera.project(world_joints(person.figure, person.body))[:, 0]
        inside.append(columns.min() > 0 and columns.max() < script.camera.width)
    assert np.mean(inside) > 0.8
