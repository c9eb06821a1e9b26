"""Clips written forward and backward: only the order of the frames may tell the direction."""

import csv
import dataclasses
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from configs import ConfigError, DataError
from tests.support.coded_video import write_video
from train.__main__ import main
from train.data.arrow import ArrowOptions, write_arrow
from train.data.manifest import read_manifest


def decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


def packet_sizes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert all(packet.is_keyframe for packet in packets)
    return [packet.size for packet in packets]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of three takes, in two folders, one of them too short."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a/t1-x", "a/t1-y", "b/t2-x", "b/t2-y", "b/t3-x")):
        path = folder / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        first = 100 * number
        write_video(path, "libx264", range(first, first + (10 if number == 3 else 40)), fps=25)
    return folder


@pytest.fixture(scope="module")
def written(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arrow")
    options = ArrowOptions(
        *(videos, out), fps=25, max_seconds=1.2, min_seconds=0.5, folds=3, group="(t[0-9])-", jobs=2
    )
    report = write_arrow(options, quiet=True)
    assert report.unreadable == ()
    assert [path.name for path in report.too_short] == ["t2-y.mp4"]
    assert report.train + report.validation == len(list(out.rglob("*.mp4")))
    return out


def test_both_directions_hold_the_same_pixels_in_frames_of_the_same_size(written: Path) -> None:
    forward = sorted((written / "clips/forward").iterdir())
    assert len(forward) == 4  # 30 of 40 frames each: the rest is too short
    for path in forward:
        twin = written / "clips/backward" / path.name
        frames = decoded(path)
        assert len(frames) == 30
        assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 0
        np.testing.assert_array_equal(frames, decoded(twin)[::-1])
        # The first packet also holds the encoder's headers; pictures are numbered in their order.
        sizes, sizes_of_twin = packet_sizes(path)[1:-1], packet_sizes(twin)[-2:0:-1]
        np.testing.assert_allclose(sizes, sizes_of_twin, atol=2)


def test_all_clips_of_a_take_lie_on_one_side_in_both_directions(written: Path) -> None:
    data = yaml.safe_load((written / "data.yaml").read_text())["data"]
    sides: dict[str, set[str]] = {}
    for part in ("train", "validation"):
        entries = read_manifest(Path(data[part])).entries
        for label in ("forward", "backward"):
            names = {entry.path.name for entry in entries if entry.label == label}
            sides.setdefault(part, names)
            assert sides[part] == names
            assert all(entry.path.parent.name == label for entry in entries if entry.label == label)
    assert not sides["train"] & sides["validation"]
    assert data["labels"] == ["forward", "backward"]
    # Videos 0 and 1 are of take 1.
    taken = [{name[:5] for name in names} for names in sides.values()]
    assert all(len(numbers & {"00000", "00001"}) != 1 for numbers in taken)


def test_the_command_reads_manifests_and_names_what_it_left_out(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    manifest = tmp_path / "list.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "start_seconds", "end_seconds"])
        for label in ("walk", "run"):  # the same part under two labels is one clip
            rows.writerow([videos / "a/t1-x.mp4", label, 0.2, 1.4])
        rows.writerow([videos / "a/t1-x.mp4", "run", 0, 0.3])
        rows.writerow([videos / "b/t2-x.mp4", "run", "", ""])
        rows.writerow([tmp_path / "broken.mp4", "run", "", ""])
    arguments = ["arrow", "--videos", str(manifest), "--out", str(tmp_path / "out"), "--folds", "2"]
    assert main([*arguments, "--fps", "25"]) == 1
    text = capsys.readouterr().out
    assert "left out 1 videos that cannot be read (first: " in text
    assert "left out 1 videos that are too short (first: " in text
    assert "2 training and 2 validation clips" in text
    clip = next((tmp_path / "out/clips/forward").glob("00000-*.mp4"))
    assert len(decoded(clip)) == 30


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e", "f"])
def test_videos_without_clips_leave_no_fold_empty(videos: Path, tmp_path: Path, name: str) -> None:
    """A third video, which cannot be read, comes at any place in the order of hashes."""
    shutil.copytree(videos, tmp_path / "videos")
    (tmp_path / f"videos/{name}.mp4").write_bytes(b"no video")
    options = ArrowOptions(tmp_path / "videos", tmp_path / "out", folds=2, fps=25)
    report = write_arrow(options, quiet=True)
    assert report.train
    assert report.validation
    listed = (tmp_path / "out/train.csv").read_text()
    (tmp_path / "videos").rename(tmp_path / "moved")
    write_arrow(dataclasses.replace(options, source=tmp_path / "moved"), quiet=True)
    assert (tmp_path / "out/train.csv").read_text() == listed


def test_what_cannot_be_used_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="held-out fold"):
        ArrowOptions(videos, tmp_path, fold=6)
    with pytest.raises(ConfigError, match="minimum <= maximum"):
        ArrowOptions(videos, tmp_path, min_seconds=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video below"):
        write_arrow(ArrowOptions(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(DataError, match="3 groups of videos cannot be dealt into 4 folds"):
        write_arrow(ArrowOptions(videos, tmp_path / "out", folds=4, group="(t[0-9])-"))
