"""A hand reaches the point that it is sent to, and a pelvis stands where the figure is."""

import numpy as np
import pytest

from train.synthetic.motions.body import HANDS, PELVIS, SHOULDERS, pose, random_body
from train.synthetic.motions.motion import Figure
from train.synthetic.motions.reach import over_pelvis, reach, world_joints


@pytest.mark.parametrize("hand", [0, 1])
@pytest.mark.parametrize("seed", range(8))
def test_a_hand_reaches_every_point_in_front_that_is_near_enough(hand: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    body = random_body(rng)
    lean = float(rng.uniform(-0.2, 0.5))
    figure = Figure(pose(lean=lean, hip_left=0.3, knee_left=0.5), 0.4, 5.0, rng.uniform(-3, 3))
    shoulder = world_joints(figure, body)[SHOULDERS[hand]]
    ahead = np.array([np.sin(figure.yaw), 0.0, -np.cos(figure.yaw)])
    right = np.array([np.cos(figure.yaw), 0.0, np.sin(figure.yaw)])
    for forward, aside, up in ((0.3, 0.0, 0.0), (0.25, 0.1, 0.15), (0.2, -0.1, -0.2)):
        offset = forward * ahead + aside * right + np.array([0.0, up, 0.0])
        target = shoulder + offset
        moved = world_joints(reach(figure, body, hand, target), body)
        np.testing.assert_allclose(moved[HANDS[hand]], target, atol=1e-9)
        other = HANDS[1 - hand]
        np.testing.assert_array_equal(moved[other], world_joints(figure, body)[other])


@pytest.mark.parametrize("aside", [-0.5, 0.0, 0.8])
def test_an_arm_points_straight_at_what_is_too_far(aside: float) -> None:
    body = random_body(np.random.default_rng(1))
    figure = Figure(pose(lean=0.1), 0.0, 5.0, 0.7)
    shoulder = world_joints(figure, body)[SHOULDERS[1]]
    ahead = np.array([np.sin(0.7), 0.2, -np.cos(0.7)])
    target = shoulder + 4.0 * (ahead + aside * np.array([np.cos(0.7), 0.0, np.sin(0.7)]))
    arm = world_joints(reach(figure, body, 1, target), body)[HANDS[1]] - shoulder
    away = target - shoulder
    cosine = arm @ away / (np.linalg.norm(arm) * np.linalg.norm(away))
    assert cosine > 0.999
    assert np.linalg.norm(arm) == pytest.approx(0.345 * body.height_metres, rel=1e-2)


def test_amount_zero_keeps_the_arm() -> None:
    figure = Figure(pose(elbow_left=0.4), 0.0, 5.0, 0.0)
    body = random_body(np.random.default_rng(2))
    assert reach(figure, body, 0, np.zeros(3), amount=0.0) is figure


def test_the_pelvis_stays_when_a_leg_is_raised() -> None:
    body = random_body(np.random.default_rng(3))
    figure = Figure(pose(hip_left=1.2), 0.3, 4.0, 1.1)
    moved = over_pelvis(figure, body)
    np.testing.assert_allclose(world_joints(moved, body)[PELVIS, [0, 2]], (0.3, 4.0), atol=1e-9)
    np.testing.assert_array_equal(moved.angles, figure.angles)
