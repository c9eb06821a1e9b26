"""Folders of numbered images, read as videos."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import MediaError
from model.media.image_sequence import (
    ImageSequence,
    find_sequence,
    numbered_images,
    size_and_mtime,
)
from model.media.video import decode_frames, rgb_frames_at, sampled_frames
from model.media.video_grid import video_grid
from tests.support.images import grey_of, write_images


def test_images_are_sorted_by_number_and_chosen_by_their_beginning() -> None:
    assert numbered_images(["10.jpg", "2.jpg", "1.JPG"]) == ["1.JPG", "2.jpg", "10.jpg"]
    assert numbered_images(["img_2.png", "flow_x_00001.jpg", "flow_y_00001.jpg", "img_1.png"]) == [
        "img_1.png",
        "img_2.png",
    ]
    assert numbered_images(["x_00001.jpg", "y_00001.jpg", "frame000001.jpeg"]) == [
        "frame000001.jpeg"
    ]
    assert numbered_images(["mask_1.png", "mask_2.png", "00001.jpg"]) == ["00001.jpg"]
    assert numbered_images(["cam 1.webp", "cam 2.webp", "b1.bmp"]) == ["cam 1.webp", "cam 2.webp"]
    assert numbered_images(["._1.jpg", "cover.jpg", "1.txt", "1.mp4"]) == []
    assert numbered_images(["01.jpg", "1.jpg", "2.jpg"]) == ["01.jpg", "2.jpg"]


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "webp", "bmp", "JPG"])
def test_frames_have_the_content_and_the_time_of_their_position(
    tmp_path: Path, ending: str
) -> None:
    folder = write_images(tmp_path / "v", [0, 100, 200], f"{{}}.{ending}")
    frames = list(decode_frames(ImageSequence(folder, 12.0)))
    assert [frame.time for frame in frames] == pytest.approx([0, 1 / 12, 2 / 12])
    assert [grey_of(frame) for frame in frames] == pytest.approx([0, 100, 200], abs=2)
    assert [frame.time for frame in decode_frames(folder)] == pytest.approx([0, 0.04, 0.08])


def test_colours_and_gaps_in_the_numbers(tmp_path: Path) -> None:
    blue = np.full((32, 48, 3), (250, 0, 0), np.uint8)  # OpenCV's order: blue, green, red
    tmp_path.joinpath("v").mkdir()
    for number in (7, 8, 30, 1000):
        assert cv2.imwrite(str(tmp_path / f"v/{number:05d}.jpg"), blue)
    frames = sampled_frames(tmp_path / "v", 25.0)
    assert len(frames) == 4
    assert frames[3].shape == (32, 48, 3)
    np.testing.assert_allclose(frames[3].mean(axis=(0, 1)), (0, 0, 250), atol=4)


def test_a_sequence_is_on_the_same_grid_as_a_file(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", list(range(0, 200, 4)))
    sequence = ImageSequence(folder, 30.0)
    grid = video_grid(sequence, 15.0)
    assert grid is not None
    assert grid.places == tuple(range(0, 50, 2))
    whole = sampled_frames(sequence, 15.0)
    exact = rgb_frames_at(sequence, grid.pts[3:8])
    assert exact is not None
    np.testing.assert_array_equal(np.stack(exact), np.stack(whole[3:8]))
    part = sampled_frames(sequence, 15.0, start_seconds=0.2, end_seconds=0.5)
    np.testing.assert_array_equal(np.stack(part[:2]), np.stack(whole[3:5]))
    with pytest.raises(MediaError, match="no frame between 9"):
        sampled_frames(sequence, 15.0, start_seconds=9, end_seconds=10)


def test_only_the_wanted_images_are_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [10, 20, 30, 40])
    for name in ("00001.jpg", "00004.jpg"):
        (folder / name).write_bytes(b"not read")
    frames = rgb_frames_at(folder, [1, 2])
    assert frames is not None
    assert [round(float(frame.mean())) for frame in frames] == pytest.approx([20, 30], abs=2)
    assert rgb_frames_at(folder, [2, 3]) is None
    assert rgb_frames_at(folder, [3, 4]) is None


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda data: data[: len(data) // 2], "00002.jpg does not decode"),
        (lambda data: data[:-20], "00002.jpg does not decode"),
        (lambda _: b"", "00002.jpg does not decode: the file is empty"),
        (lambda _: b"<html>", "00002.jpg does not decode: not a JPEG, PNG, WebP or BMP image"),
    ],
)
def test_a_broken_image_is_skipped_or_named(tmp_path: Path, broken, says: str) -> None:  # type: ignore[no-untyped-def]
    folder = write_images(tmp_path / "v", [10, 20, 30])
    middle = folder / "00002.jpg"
    middle.write_bytes(broken(middle.read_bytes()))
    assert [frame.pts for frame in decode_frames(folder)] == [0, 2]
    with pytest.raises(MediaError, match=says):
        list(decode_frames(folder, strict=True))


def test_images_that_never_end_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "v", [10, 20, 30, 40])
    odd = [folder / f"0000{number}.jpg" for number in (1, 2, 3)]
    for path in odd:
        path.unlink()
    os.mkfifo(odd[0])
    odd[1].symlink_to("/dev/zero")
    with odd[2].open("wb") as file:
        file.truncate(1 << 40)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: pytest.fail(f"{path}") if path in odd else read(path)
    )
    assert [frame.pts for frame in decode_frames(folder)] == [3]
    for says in ("1.jpg .*it is a folder, pipe", "2.jpg .*it is a folder, pipe", "3.jpg .*256 MB"):
        with pytest.raises(MediaError, match=says):
            list(decode_frames(folder, strict=True))
        odd.pop(0).unlink()


def test_sizes_may_change_as_in_a_file(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [10] * 3)
    write_images(folder, [20] * 5, first=4, size=(64, 32))
    assert {frame.shape for frame in sampled_frames(folder, 25.0)} == {(64, 32, 3)}
    assert len(sampled_frames(folder, 25.0)) == 5
    assert rgb_frames_at(folder, [2, 3]) is None


def test_what_is_not_a_sequence_says_why(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot open: the folder has no numbered images"):
        list(decode_frames(tmp_path))
    folder = write_images(tmp_path / "v", [10])
    (folder / "00001.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(MediaError, match="no frame could be decoded"):
        list(decode_frames(folder))
    assert find_sequence("rtsp://camera/1") is None
    assert find_sequence("a" * 5000) is None
    assert find_sequence("nul\0") is None


def test_a_changed_image_changes_size_or_time(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [10, 20])
    before = size_and_mtime(folder)
    assert before[0] == sum(path.stat().st_size for path in folder.iterdir())
    (folder / "00002.jpg").write_bytes(b"shorter")
    assert size_and_mtime(folder) != before
