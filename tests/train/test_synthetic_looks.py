"""What generated scenes show: cameras, furniture in front of people, light and sensors."""

import dataclasses

import numpy as np
import pytest

from train.synthetic.film import Look, frames_at
from train.synthetic.motions import body as bodies
from train.synthetic.motions.motion import Figure, Place
from train.synthetic.people import Person
from train.synthetic.script import clip_script
from train.synthetic.view.camera import Camera, random_camera
from train.synthetic.view.exposure import exposure
from train.synthetic.view.figures import figure_points
from train.synthetic.view.furniture import block_mask
from train.synthetic.view.looks import random_look
from train.synthetic.view.render import render
from train.synthetic.view.room import Block, Room, random_room
from train.synthetic.view.room_painting import draw_room

PLAIN = Look(15.0, False, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 0.0, 24, "ultrafast", 2.0, 0)
FRONT = Camera(640, 360, 500.0, 1.2, 0.0, 0.0)
BODY = bodies.random_body(np.random.default_rng(3))
GREY = (120, 120, 120)


def room(*blocks: Block) -> Room:
    return Room(6.0, (), GREY, (90, 90, 90), None, (), (200, 0, 0), 5, blocks)


def standing(x: float, z: float) -> Person:
    return Person(Figure(bodies.pose(), x, z, 0.0), BODY)


def test_directions_lead_back_to_the_points_that_were_projected() -> None:
    points = np.random.default_rng(0).uniform((-1.5, 0, 4), (1.5, 2, 6), (50, 3))
    for seed in range(20):
        camera = random_camera(np.random.default_rng(seed), 640, 360, 5.0)
        columns, rows = camera.project(points).T
        away = points - (camera.x_metres, camera.height_metres, camera.z_metres)
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        found = camera.directions(columns, rows).T
        np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), away)


def test_a_steep_camera_measures_depth_along_its_axis() -> None:
    camera = dataclasses.replace(FRONT, height_metres=4.9, tilt=np.pi / 4)
    points = np.array([[0.0, 0.9, 4.0]])
    assert camera.depths(points)[0] == pytest.approx(4 * np.sqrt(2))
    assert camera.scale(4.0) == pytest.approx(500 / (4 * np.sqrt(2)))


def test_cameras_are_low_and_high_near_and_far_and_show_the_person() -> None:
    heights, fractions = [], []
    for seed in range(200):
        camera = random_camera(np.random.default_rng(seed), 640, 360, 5.0)
        feet, chest, head = camera.project_points((0, 0, 5), (0, 0.9, 5), (0, 1.7, 5))
        assert 0.2 * 640 < chest[0] < 0.8 * 640
        assert 0 < chest[1] < 360
        heights.append(camera.height_metres)
        fractions.append((feet[1] - head[1]) / 360)
    assert min(heights) < 0.7
    assert max(heights) > 3.0
    assert min(fractions) < 0.3
    assert max(fractions) > 0.8


def test_furniture_covers_who_is_behind_it_and_not_who_is_in_front() -> None:
    table = Block(0.0, 3.5, 1.2, 0.5, 0.5, (180, 60, 40))
    scene = room(table)
    background = draw_room(scene, FRONT)
    found = block_mask(table, FRONT)
    assert found is not None
    rows, columns, mask = found
    behind = render(background, scene, FRONT, [standing(0.0, 4.5)])
    in_front = render(background, scene, FRONT, [standing(0.0, 2.8)])
    assert (behind[rows, columns][mask] == background[rows, columns][mask]).all()
    assert (behind != background).any()
    assert (in_front[rows, columns][mask] != background[rows, columns][mask]).mean() > 0.1


def test_the_nearer_of_two_people_who_touch_covers_the_other() -> None:
    scene = room()
    background = draw_room(scene, FRONT)
    near, far = standing(0.0, 3.0), standing(0.05, 3.6)
    alone = render(background, scene, FRONT, [near])
    for people in ([near, far], [far, near]):
        both = render(background, scene, FRONT, people)
        top, bottom = FRONT.project(figure_points(near))[[bodies.NECK, bodies.PELVIS], 1]
        trunk = (slice(int(top) + 8, int(bottom)), slice(312, 328))
        assert (alone[trunk] != background[trunk]).mean() > 0.9
        assert (both[trunk] == alone[trunk]).all()


def test_furniture_leaves_the_place_and_the_door_free() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        place = Place(float(rng.uniform(-1, 1)), 4.5, 0.5, 5.5)
        scene = random_room(rng, place, chair_at=None, door=True)
        for block in scene.blocks:
            half = block.width / 2
            assert abs(block.x - place.x) > half + 0.3
            assert block.height <= 0.5 or block.z > place.z - 0.5
    scene = random_room(np.random.default_rng(0), place, chair_at=None, door=True, furniture=False)
    assert scene.blocks == ()


def test_infrared_is_grey_and_night_is_darker() -> None:
    frame = np.full((90, 160, 3), (200, 90, 60), np.uint8)
    look = dataclasses.replace(PLAIN, infrared=True, vignette=0.8)
    seen = exposure(look, 160, 90, np.random.default_rng(0))(frame, 0.0)
    assert (seen == seen[..., :1]).all()
    assert seen[45, 80, 0] > 2 * seen[0, 0, 0]


def test_exposure_changes_in_steps_and_ghosts_stay_for_a_frame() -> None:
    dark, bright = (np.full((90, 160, 3), level, np.uint8) for level in (50, 100))
    stepping = dataclasses.replace(PLAIN, exposure_steps=((1.0, 1.5),))
    expose = exposure(stepping, 160, 90, np.random.default_rng(0))
    assert [int(expose(dark, time).mean()) for time in (0.5, 3.0)] == [50, 75]
    expose = exposure(dataclasses.replace(PLAIN, ghost=0.4), 160, 90, np.random.default_rng(0))
    assert [int(expose(frame, 0.0).mean()) for frame in (bright, dark)] == [100, 70]


@pytest.mark.parametrize("seed", range(4))
def test_the_same_generator_gives_the_same_frames(seed: int) -> None:
    def frames() -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        script = clip_script("fall", rng)
        return list(frames_at(script, [0.0, 1.0], rng, random_look(rng)))

    np.testing.assert_array_equal(frames(), frames())
