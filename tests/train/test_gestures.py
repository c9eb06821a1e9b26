"""Generated hand gestures: directions, mirrors and reversals are what the labels say."""

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError
from train.synthetic import BACKGROUND, ScenesOptions, write_scenes
from train.synthetic.film import film, random_look
from train.synthetic.gestures import FLIPS, GESTURES, REVERSALS, gesture_script
from train.synthetic.gestures.hands import Hand, blend, hand_joints
from train.synthetic.gestures.motions import Stage, draw_act
from train.synthetic.gestures.paths import minimum_jerk, polyline
from train.synthetic.truth import CLIP_SECONDS, MIN_ACTION_FRACTION

STAGE = Stage(Hand(x=0.1, y=0.02), reach=0.25, side=1.0)
SEEDS = range(12)


def centres(label: str, seed: int, stage: Stage = STAGE) -> np.ndarray:
    """Return the first hand's positions `[41, 2]` over a gesture."""
    act = draw_act(label, np.random.default_rng(seed), stage)
    hands = [act.at(float(u))[0] for u in np.linspace(0, 1, 41)]
    return np.array([(hand.x, hand.y) for hand in hands])


def fingertip_distance(hand: Hand) -> float:
    """Return the distance of the tips of thumb and index finger."""
    _, fingers = hand_joints(hand, 1.0)
    return float(np.linalg.norm(fingers[0, -1] - fingers[1, -1]))


def test_mirrors_and_reversals_are_pairs_among_the_gestures() -> None:
    for facts in (FLIPS, REVERSALS):
        assert set(facts) == set(GESTURES)
        assert all(facts[facts[gesture]] == gesture for gesture in GESTURES)
    for name, other in (("left", "right"), ("_clockwise", "_counterclockwise")):
        for gesture in GESTURES:
            if gesture.endswith(name):
                assert FLIPS[gesture] == gesture.removesuffix(name) + other


@pytest.mark.parametrize("label", GESTURES)
def test_the_reversal_shows_the_same_poses_backwards(label: str) -> None:
    if REVERSALS[label] == label:
        pytest.skip("the gesture is its own reversal: no second label exists")
    one = draw_act(label, np.random.default_rng(3), STAGE)
    other = draw_act(REVERSALS[label], np.random.default_rng(3), STAGE)
    for u in (0.0, 0.3, 0.8, 1.0):
        for hand, backward in zip(one.at(u), other.at(1.0 - u), strict=True):
            poses = [dataclasses.astuple(pose) for pose in (hand, backward)]
            assert poses[0][:-1] == pytest.approx(poses[1][:-1], abs=1e-9)
            assert poses[0][-1] == pytest.approx(poses[1][-1], abs=1e-9)


@pytest.mark.parametrize(
    ("label", "direction"),
    [
        ("swipe_left", (-1, 0)),
        ("swipe_right", (1, 0)),
        ("swipe_up", (0, -1)),
        ("swipe_down", (0, 1)),
    ],
)
def test_swipes_go_where_they_say(label: str, direction: tuple[int, int]) -> None:
    for seed in SEEDS:
        points = centres(label, seed)
        step = points[-1] - points[0]
        assert step @ direction > 0.85 * np.linalg.norm(step)


@pytest.mark.parametrize(
    ("label", "sign"), [("circle_clockwise", 1), ("circle_counterclockwise", -1)]
)
def test_circles_turn_where_they_say(label: str, sign: int) -> None:
    """The area of the path, by the shoelace formula with y down, is positive when clockwise."""
    for seed in SEEDS:
        x, y = centres(label, seed).T
        area = 0.5 * float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
        assert sign * area > 0.05


def test_hands_turn_grow_open_and_part_as_the_labels_say() -> None:
    for seed in SEEDS:
        ends = {}
        for label in GESTURES:
            act = draw_act(label, np.random.default_rng(seed), STAGE)
            ends[label] = (act.at(0.0), act.at(1.0))
        first, last = (hands[0] for hands in ends["turn_hand_clockwise"])
        assert last.roll < first.roll - 0.8
        first, last = (hands[0] for hands in ends["push_hand"])
        assert last.scale > 1.5 * first.scale
        first, last = (hands[0] for hands in ends["open_hand"])
        assert sum(last.curls) < sum(first.curls) - 3
        start, end = ends["zoom_in"]
        if len(start) == 2:
            assert abs(end[0].x - end[1].x) > 1.5 * abs(start[0].x - start[1].x)
        else:
            assert fingertip_distance(end[0]) > 1.5 * fingertip_distance(start[0])


@pytest.mark.parametrize(("label", "up"), [("thumb_up", 1), ("thumb_down", -1)])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_thumbs_point_up_or_down(label: str, up: int, side: float) -> None:
    for seed in SEEDS:
        act = draw_act(label, np.random.default_rng(seed), Stage(Hand(), 0.25, side))
        _, fingers = hand_joints(act.at(0.7)[0], side)
        thumb = fingers[0, -1] - fingers[0, 0]
        assert up * thumb[1] > 0.75 * np.linalg.norm(thumb)


def test_a_left_hand_is_the_mirror_of_a_right_hand() -> None:
    hand = Hand(roll=0.4, yaw=0.7, pitch=0.3, curls=(0.2, 0.4, 0.1, 0.9, 0.5))
    mirrored = Hand(roll=-0.4, yaw=0.7, pitch=0.3, curls=hand.curls)
    for one, other in zip(hand_joints(hand, 1.0), hand_joints(mirrored, -1.0), strict=True):
        np.testing.assert_allclose(one * [-1, 1, 1], other, atol=1e-12)


def test_movements_are_those_of_minimum_jerk() -> None:
    """The polynomial of Flash and Hogan (1985): speed and acceleration vanish at both ends."""
    u = np.linspace(0, 1, 2001)
    places = np.array([minimum_jerk(float(value)) for value in u])
    speed = np.gradient(places, u)
    assert speed.max() == pytest.approx(1.875, abs=1e-3)
    assert speed[0] == pytest.approx(0, abs=1e-2)
    path = polyline([(0, 0), (1, 0), (1, 1)])
    np.testing.assert_allclose(path(0.5), (1, 0), atol=1e-9)
    np.testing.assert_allclose(path(1.0), (1, 1), atol=1e-9)
    assert blend(Hand(x=0.0), Hand(x=2.0), 0.25).x == 0.5


@pytest.mark.parametrize("label", GESTURES)
def test_every_clip_of_a_video_shows_enough_of_the_gesture(label: str) -> None:
    script = gesture_script(label, np.random.default_rng(5))
    (interval,) = script.intervals
    length = interval.end_seconds - interval.start_seconds
    for start in np.linspace(0, script.seconds - CLIP_SECONDS, 7):
        shown = min(start + CLIP_SECONDS, interval.end_seconds) - max(start, interval.start_seconds)
        assert shown >= MIN_ACTION_FRACTION * min(length, CLIP_SECONDS) - 1e-9


def test_the_same_generator_state_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        film(gesture_script("shake_hand", rng), tmp_path / "a.mp4", rng, random_look(rng))
        digests.append(hashlib.sha256((tmp_path / "a.mp4").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_gestures_are_written_beside_the_other_clips(tmp_path: Path) -> None:
    options = ScenesOptions(
        tmp_path, clips_per_action=1, background_ratio=1, recordings=0, clips_per_gesture=1
    )
    write_scenes(options, quiet=True)
    with (tmp_path / "clips/manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [row["label"] for row in rows]
    assert set(GESTURES) < set(labels)
    assert labels.count(BACKGROUND) == 2
    assert len({row["path"] for row in rows}) == len(rows)
    assert all((tmp_path / "clips" / row["path"]).is_file() for row in rows)


def test_a_negative_number_of_gestures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clips_per_gesture"):
        ScenesOptions(tmp_path, clips_per_gesture=-1)
