"""Manifests of public data sets, from their official lists where these are at hand."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from configs import DataError, parse_config
from train.__main__ import main
from train.config import DataConfig
from train.data.datasets import mirrored_labels, read_dataset, write_manifests
from train.data.manifest import read_manifest


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_ucf101_as_it_is_distributed(shared_data: Path, tmp_path: Path) -> None:
    lists = shared_data / "annotations" / "ucf101_splits"
    for split, sizes in ((1, (9537, 3783)), (2, (9586, 3734)), (3, (9624, 3696))):
        dataset = read_dataset("ucf101", tmp_path, lists, split=split)
        parts = [video.part for video in dataset.videos]
        assert (parts.count("train"), parts.count("validation")) == sizes
        assert len({video.path for video in dataset.videos}) == 13320
    assert (
        list(dataset.labels)
        == (shared_data / "annotations/mmaction2/ucf101_label_map.txt").read_text().split()
    )


def test_hmdb51_as_it_is_distributed(shared_data: Path, tmp_path: Path) -> None:
    dataset = read_dataset("hmdb51", tmp_path, shared_data / "annotations" / "hmdb51_splits")
    parts = [video.part for video in dataset.videos]
    assert (parts.count("train"), parts.count("validation")) == (3570, 1530)
    assert (
        list(dataset.labels)
        == (shared_data / "annotations/mmaction2/hmdb51_label_map.txt").read_text().split()
    )
    with pytest.raises(DataError, match=r"no files named <class>_test_split2\.txt"):
        read_dataset("hmdb51", tmp_path, shared_data / "annotations" / "hmdb51_splits", split=2)


def test_something_something_by_its_templates(shared_data: Path, tmp_path: Path) -> None:
    labels = (shared_data / "annotations/mmaction2/sthv2_label_map.txt").read_text().splitlines()
    (tmp_path / "labels.json").write_text(
        json.dumps({label: str(number) for number, label in enumerate(labels)})
    )
    items = [
        {
            "id": "7",
            "label": "pushing a pen from left to right",
            "template": "Pushing [something] from left to right",
            "placeholders": ["a pen"],
        },
        {
            "id": "9",
            "label": "holding a cup",
            "template": "Holding [something]",
            "placeholders": ["a cup"],
        },
    ]
    (tmp_path / "train.json").write_text(json.dumps(items))
    (tmp_path / "validation.json").write_text(json.dumps(items[1:]))
    touch(tmp_path, "videos/7.webm", "videos/9.mp4")
    dataset = read_dataset("something-something-v2", tmp_path / "videos", tmp_path)
    assert list(dataset.labels) == labels
    assert [(video.path.name, video.label, video.part) for video in dataset.videos] == [
        ("7.webm", "Pushing something from left to right", "train"),
        ("9.mp4", "Holding something", "train"),
        ("9.mp4", "Holding something", "validation"),
    ]
    pairs, alone = mirrored_labels(dataset.labels)
    assert pairs["Pushing something from left to right"] == "Pushing something from right to left"
    assert (
        pairs["Turning the camera left while filming something"]
        == "Turning the camera right while filming something"
    )
    assert alone == (
        "Plugging something into something but pulling it right out as you remove your hand",
    )
    assert all(pairs[pairs[label]] == label for label in pairs)
    assert not [label for label in pairs if "upright" in label]


def test_kinetics_in_any_of_the_folders_people_have(shared_data: Path, tmp_path: Path) -> None:
    rows = "label,youtube_id,time_start,time_end,split\nair drumming,-abc,7,17,train\n"
    (tmp_path / "train.csv").write_text(rows + "zumba,xyz,120,130,train\n")
    (tmp_path / "validate.csv").write_text(rows.replace("-abc", "def"))
    touch(
        tmp_path,
        "v/air drumming/-abc_000007_000017.mp4",
        "v/air_drumming/def_000007_000017.mp4",
        "v/xyz_000120_000130.mp4",
    )
    dataset = read_dataset("kinetics-400", tmp_path / "v", tmp_path)
    assert all(video.path.is_file() for video in dataset.videos)
    assert dataset.labels == ("air drumming", "zumba")
    official = (
        (shared_data / "annotations/mmaction2/kinetics_label_map_k400.txt").read_text().splitlines()
    )
    assert official == sorted(official)  # so is the order of our labels
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nzumba,xyz,soon,130,train\n"
    )
    with pytest.raises(DataError, match=r"train\.csv, line 2: needs label"):
        read_dataset("kinetics-400", tmp_path / "v", tmp_path)


def test_a_folder_keeps_recordings_together(shared_data: Path) -> None:
    folder = shared_data / "actions" / "ut_interaction"
    held_out: list[Path] = []
    for fold in range(1, 6):
        dataset = read_dataset("folder", folder, split=fold, group=r"set\d+_\d+_(\d+)_")
        assert dataset.labels == (
            "hand_shaking",
            "hugging",
            "kicking",
            "pointing",
            "punching",
            "pushing",
        )
        sequences: dict[str, set[str]] = {"train": set(), "validation": set()}
        for video in dataset.videos:
            sequences[video.part].add(video.path.stem.split("_")[2])
        assert not sequences["train"] & sequences["validation"]
        held_out += [video.path for video in dataset.videos if video.part == "validation"]
    assert sorted(held_out) == sorted(path for path in folder.rglob("*.avi"))


def test_what_is_written_is_a_manifest_and_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(
        tmp_path,
        *(
            f"v/{label}/{number}, a.mp4"
            for label in ("walk_left", "walk_right", "wave")
            for number in range(6)
        ),
        "v/wave/notes.txt",
    )
    arguments = [
        "manifest",
        "folder",
        "--videos",
        str(tmp_path / "v"),
        "--folds",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert (
        "3 labels; 12 training and 6 validation videos listed, 0 missing" in capsys.readouterr().out
    )
    manifests = [read_manifest(tmp_path / "out" / name) for name in ("train.csv", "validation.csv")]
    assert all(entry.path.is_file() for manifest in manifests for entry in manifest.entries)
    text = (tmp_path / "out" / "data.yaml").read_text()
    data = parse_config(yaml.safe_dump(yaml.safe_load(text)["data"]), DataConfig)
    assert data.flip_labels == {"walk_left": "walk_right", "walk_right": "walk_left"}


def test_missing_videos_are_counted_and_an_error_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "v/A/1.avi", "v/A/3.avi")
    for name, text in (
        ("classInd.txt", "1 A\n2 B\n"),
        ("trainlist01.txt", "A/1.avi 1\nA/2.avi 1\n"),
        ("testlist01.txt", "A/3.avi\n"),
    ):
        (tmp_path / name).write_text(text)
    arguments = [
        "manifest",
        "ucf101",
        "--videos",
        str(tmp_path / "v"),
        "--annotations",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "1 missing" in out
    assert "2.avi" in out
    assert main([*arguments, "--allow-missing"]) == 0
    with (tmp_path / "out" / "train.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 2
    (tmp_path / "testlist01.txt").write_text("C/3.avi\n")
    assert main(arguments) == 2
    assert "line 1: 'C' is not in classInd.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"videos": "nowhere"}, "no folder of videos"),
        ({"split": 9}, "must be one of 1 to 5"),
        ({"group": "("}, "not a regular expression"),
        ({"group": "a"}, "exactly one group"),
        ({"group": "(zebra)"}, "finds nothing"),
        ({"name": "ucf101"}, "needs the folder of its official lists"),
        ({"folds": 4}, "cannot be dealt into 4 folds"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, options: dict[str, object], says: str) -> None:
    touch(tmp_path, "v/a/1.mp4", "v/b/2.mp4")
    given = {"name": "folder", "folds": 5} | options
    videos = tmp_path / str(given.pop("videos", "v"))
    with pytest.raises(DataError, match=says):
        read_dataset(given.pop("name"), videos, **given)  # type: ignore[arg-type]
    touch(tmp_path, "one/a/1.mp4")
    with pytest.raises(DataError, match="at least two classes"):
        read_dataset("folder", tmp_path / "one")


def test_a_part_without_videos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name, text in (
        ("classInd.txt", "1 A\n2 B\n"),
        ("trainlist01.txt", "A/1.avi 1\n"),
        ("testlist01.txt", "A/3.avi\n"),
    ):
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="no video of the train part was found"):
        write_manifests(read_dataset("ucf101", tmp_path / "v", tmp_path), tmp_path / "out")


def test_labels_that_name_a_side_are_never_mirrored_blindly() -> None:
    fields = {
        "train": "t.csv",
        "validation": "v.csv",
        "labels": ("turn left", "turn right", "bright"),
    }
    with pytest.raises(ValueError, match=r"\['turn left', 'turn right'\] name a side"):
        DataConfig.model_validate(fields)
    DataConfig.model_validate(fields | {"flip": False})
    DataConfig.model_validate(fields | {"no_flip_labels": ("turn left", "turn right")})
    DataConfig.model_validate(
        fields | {"flip_labels": {"turn left": "turn right", "turn right": "turn left"}}
    )
    with pytest.raises(ValueError, match="no_flip_labels names"):
        DataConfig.model_validate(fields | {"no_flip_labels": ("turn",)})
