"""Public data sets with times, and with splits in their file names.

The samples are written here in the formats that the pages of the sets describe; nothing of this has
read the real files.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from configs import DataError
from tests.train.test_datasets import touch
from train.__main__ import main
from train.data.datasets import Dataset, read_dataset, write_manifests
from train.data.manifest import read_manifest

Row = tuple[str, str, str, float | None, float | None]


def rows(dataset: Dataset) -> list[Row]:
    return [
        (video.path.name, video.label, video.part, video.start_seconds, video.end_seconds)
        for video in dataset.videos
    ]


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CHARADES = {
    "Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Putting clothes somewhere\n",
    "Charades_v1_train.csv": (
        "id,subject,scene,quality,script,actions,length\n"
        '46GP8,HR43,Kitchen,6,"A person, cooking.",c000 11.90 21.20;c001 0.00 12.60,24.83\n'
        "N11GT,0KZ7,Stairs,5,Walks.,,18.33\n"
        "SS001,0KZ7,Stairs,5,Late.,c001 3.00 99.00;c000 31.00 40.00,30.5\n"
    ),
    "Charades_v1_test.csv": "id,actions,length\nYSKX3,c001 1.5 2.25,9.00\n",
}


def test_charades_gives_a_line_for_each_action(tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", CHARADES)
    touch(tmp_path, *(f"v/{name}.mp4" for name in ("46GP8", "N11GT", "SS001", "YSKX3")))
    dataset = read_dataset("charades", tmp_path / "v", lists)
    assert dataset.labels == ("Holding some clothes", "Putting clothes somewhere")
    assert rows(dataset) == [
        ("46GP8.mp4", "Holding some clothes", "train", 11.9, 21.2),
        ("46GP8.mp4", "Putting clothes somewhere", "train", 0.0, 12.6),
        ("SS001.mp4", "Putting clothes somewhere", "train", 3.0, 30.5),  # cut at the length
        ("YSKX3.mp4", "Putting clothes somewhere", "validation", 1.5, 2.25),
    ]
    assert dataset.notices == (
        "left out 1 videos that list no action",
        "left out 1 actions that start after the end of their video",
    )
    assert write_manifests(dataset, tmp_path / "out") == []
    entries = read_manifest(tmp_path / "out/train.csv").entries
    assert [(entry.path.name, entry.start_seconds, entry.end_seconds) for entry in entries] == [
        ("46GP8.mp4", 11.9, 21.2),
        ("46GP8.mp4", 0.0, 12.6),
        ("SS001.mp4", 3.0, 30.5),
    ]


AVA = {
    "ava_action_list_v2.2.pbtxt": (
        'label {\n  name: "bend/bow (at the waist)"\n  label_id: 1\n  label_type: PERSON_MOVEMENT\n'
        '}\nlabel {\n  name: "stand"\n  label_id: 12\n}\n'
    ),
    "kinetics_train_v1.0.csv": (
        "-a_b,14.0,0.1,0.2,0.5,0.9,12\n-a_b,14.0,0.5,0.2,0.9,0.9,12\n"
        "-a_b,14.0,0.5,0.2,0.9,0.9,1\nquiet,7.5,,,,,\nnobody,3\n"
        "-a_b,14.0,0.5,0.2,0.9,0.9,79\n"
    ),
    "kinetics_val_v1.0.csv": "gone,4.2,0.1,0.1,0.2,0.2,1\n",
    "ava_val_v2.2.csv": (
        "film,0902,0.1,0.1,0.2,0.2,12,0\nfilm,0904,0.1,0.1,0.2,0.2,12,0\n"
        "film,0910,0.1,0.1,0.2,0.2,12,3\n"
    ),
}


def test_ava_kinetics_gives_spans_around_key_frames(tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", AVA)
    touch(tmp_path, "v/bending/-a_b_000013_000023.mp4", "v/-a_b_000040_000050.mp4", "v/film.mkv")
    dataset = read_dataset("ava-kinetics", tmp_path / "v", lists)
    assert dataset.labels == ("bend/bow (at the waist)", "stand")
    assert rows(dataset) == [
        # The key frame lies one second after the start of the clip.
        ("-a_b_000013_000023.mp4", "bend/bow (at the waist)", "train", 0.0, 2.5),
        ("-a_b_000013_000023.mp4", "stand", "train", 0.0, 2.5),
        ("gone.mp4", "bend/bow (at the waist)", "validation", 2.7, 5.7),
        ("film.mkv", "stand", "validation", 900.5, 905.5),
        ("film.mkv", "stand", "validation", 908.5, 911.5),
    ]
    assert dataset.notices[:3] == (
        "dropped the boxes of 8 persons: labels belong to whole frames",
        "left out 2 key frames without an action",
        "left out 1 actions that the action list does not name",
    )
    assert "1 videos are listed with several labels" in dataset.notices[3]
    assert [video.path.name for video in write_manifests(dataset, tmp_path / "out")] == ["gone.mp4"]


def ntu(setup: int, camera: int, subject: int, action: int) -> str:
    return f"S{setup:03d}C{camera:03d}P{subject:03d}R001A{action:03d}_rgb.avi"


def parts(dataset: Dataset) -> dict[str, str]:
    return {video.path.name: video.part for video in dataset.videos}


def test_ntu_splits_by_subject_camera_and_setup(tmp_path: Path) -> None:
    names = [ntu(1, 1, 1, 1), ntu(2, 2, 3, 60), ntu(17, 3, 38, 43)]
    touch(tmp_path, *(f"v/nturgb+d_rgb/{name}" for name in names))
    by_subject, by_view = (read_dataset("ntu-60", tmp_path / "v", split=split) for split in (1, 2))
    assert parts(by_subject) == dict(zip(names, ("train", "validation", "train"), strict=True))
    assert parts(by_view) == dict(zip(names, ("validation", "train", "train"), strict=True))
    assert (len(by_view.labels), by_view.labels[42]) == (60, "A043")
    later = [ntu(32, 1, 103, 120), ntu(31, 1, 106, 61)]
    touch(tmp_path, *(f"v/nturgb+d_rgb120/{name}" for name in later))
    assert (
        "left out 2 videos of actions above A060"
        in read_dataset("ntu-60", tmp_path / "v").notices[0]
    )
    by_subject, by_setup = (read_dataset("ntu-120", tmp_path / "v", split=s) for s in (1, 2))
    assert [parts(by_subject)[name] for name in later] == ["train", "validation"]
    assert [parts(by_setup)[name] for name in [*names, *later]] == [
        *("validation", "train", "validation", "train", "validation")
    ]


def test_the_subjects_of_ntu_are_as_many_as_the_papers_say(tmp_path: Path) -> None:
    for count, actions, total in ((20, 60, 40), (53, 120, 106)):
        folder = tmp_path / str(actions)
        touch(folder, *(ntu(1, 1, subject, 1) for subject in range(1, total + 1)))
        found = list(parts(read_dataset(f"ntu-{actions}", folder)).values())  # type: ignore[arg-type]
        assert (found.count("train"), found.count("validation")) == (count, total - count)


def test_ntu_takes_the_names_of_actions_from_its_page(tmp_path: Path) -> None:
    lines = [f"A{number}.\taction {number}. \n" for number in range(1, 61)]
    lists = write(tmp_path / "lists", {"README.md": "# NTU\n" + "".join(lines)})
    touch(tmp_path, f"v/{ntu(1, 1, 1, 9)}")
    dataset = read_dataset("ntu-60", tmp_path / "v", lists)
    assert (dataset.labels[0], dataset.videos[0].label) == ("action 1", "action 9")
    (lists / "README.md").write_text("".join(lines[:8]))
    with pytest.raises(DataError, match=r"README\.md does not name action 9; add a line `A9\. <"):
        read_dataset("ntu-60", tmp_path / "v", lists)


KTH = (
    "The database contains six actions.\n  Training:\tperson11, 12\n\n"
    "person11_boxing_d1\t\tframes\t1-95, 96-185\n"
    "person19_walking_d4 frames 25-100\n"
    "person22_running_d2\tframes\t1-50\r\n"
    "person13_handclapping_d3 *missing*\n"
)


def test_kth_gives_a_part_for_each_sequence(tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", {"00sequences.txt": KTH})
    touch(tmp_path, "v/boxing/person11_boxing_d1_uncomp.avi", "v/person19_walking_d4_uncomp.avi")
    dataset = read_dataset("kth", tmp_path / "v", lists)
    assert dataset.labels[0] == "boxing"
    assert rows(dataset) == [
        ("person11_boxing_d1_uncomp.avi", "boxing", "train", 0.0, 3.8),
        ("person11_boxing_d1_uncomp.avi", "boxing", "train", 3.8, 7.4),
        ("person19_walking_d4_uncomp.avi", "walking", "validation", 0.96, 4.0),
    ]
    assert dataset.notices == ("1 sequences are marked as missing in 00sequences.txt",)
    test = read_dataset("kth", tmp_path / "v", lists, split=2)
    assert [video.part for video in test.videos] == ["train", "train", "train", "validation"]
    assert test.videos[3].path == tmp_path / "v/running/person22_running_d2_uncomp.avi"


def test_weizmann_leaves_one_person_out(tmp_path: Path) -> None:
    names = ("daria_wave1", "daria_pjump", "eli_jump", "lena_walk1", "lena_walk2", "lena_wave2")
    touch(tmp_path, *(f"v/{name}.avi" for name in names))
    dataset = read_dataset("weizmann", tmp_path / "v", split=3)
    assert [(row[0], row[1], row[2]) for row in rows(dataset)] == [
        ("daria_pjump.avi", "pjump", "train"),
        ("daria_wave1.avi", "wave1", "train"),
        ("eli_jump.avi", "jump", "train"),
        ("lena_walk1.avi", "walk", "validation"),
        ("lena_walk2.avi", "walk", "validation"),
        ("lena_wave2.avi", "wave2", "validation"),
    ]
    assert len(dataset.labels) == 10


def le2i(folder: Path) -> Path:
    boxes = "1,1,0,0,0,0\n2,1,205,70,259,170\n"
    rooms = {
        "Coffee_room_01/Annotation_files/video (1).txt": f"26\n51\n{boxes}",
        "Coffee_room_02/Annotations_files/video (49).txt": f"0\n0\n{boxes}",
        "Home_01/Home_01/Annotation_files/video (1).txt": f"144\n164\n{boxes}",
        "Home_01/Home_01/Annotation_files/video (2).txt": boxes,
    }
    for name in rooms:
        annotation = Path(name)
        touch(folder, str(annotation.parent.parent / "Videos" / f"{annotation.stem}.avi"))
    touch(folder, "Office/video (1).avi", "Lecture_room/Videos/video (1).avi")
    return write(folder, rooms)


def test_le2i_gives_falls_and_the_time_before_them(tmp_path: Path) -> None:
    dataset = read_dataset("le2i", le2i(tmp_path / "le2i"))
    assert dataset.labels == ("background", "fall")
    assert rows(dataset) == [
        ("video (1).avi", "background", "train", 0.0, 1.0),
        ("video (1).avi", "fall", "train", 1.0, 2.04),
        ("video (49).avi", "background", "train", None, None),
        ("video (1).avi", "background", "validation", 0.0, 5.72),
        ("video (1).avi", "fall", "validation", 5.72, 6.56),
        ("video (2).avi", "background", "validation", None, None),
    ]
    assert dataset.notices[0].startswith("left out 2 videos without annotations (first: ")
    assert dataset.notices[1].startswith("1 annotations have boxes only")
    other = read_dataset("le2i", tmp_path / "le2i", split=2)
    assert [video.part for video in other.videos] == ["validation"] * 3 + ["train"] * 3


def test_the_manifest_has_times_only_where_there_are_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["manifest", "le2i", "--videos", str(le2i(tmp_path / "le2i"))]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "3 training and 3 validation videos listed, 0 missing" in capsys.readouterr().out
    with (tmp_path / "out/train.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["path", "label", "start_seconds", "end_seconds"]
    assert [row[2:] for row in table[1:]] == [["0", "1"], ["1", "2.04"], ["", ""]]
    entries = read_manifest(tmp_path / "out/train.csv").entries
    assert [(entry.label, entry.end_seconds) for entry in entries] == [
        ("background", 1.0),
        ("fall", 2.04),
        ("background", None),
    ]


def test_jester_with_its_27_labels(shared_data: Path, tmp_path: Path) -> None:
    labels = (shared_data / "annotations/mmaction2/jester_label_map.txt").read_text()
    lists = {
        "jester-v1-labels.csv": labels,
        "jester-v1-train.csv": "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n",
        "jester-v1-validation.csv": "9223;Thumb Up\n",
    }
    dataset = read_dataset("jester", tmp_path, write(tmp_path / "lists", lists))
    assert list(dataset.labels) == labels.splitlines()
    assert len(dataset.labels) == 27
    assert [(row[1], row[2]) for row in rows(dataset)] == [
        ("Drumming Fingers", "train"),
        ("Sliding Two Fingers Right", "train"),
        ("Thumb Up", "validation"),
    ]


def _charades_line(line: str) -> dict[str, str]:
    return CHARADES | {"Charades_v1_test.csv": f"id,actions,length\n{line}\n"}


def _ava_line(line: str) -> dict[str, str]:
    return AVA | {"kinetics_val_v1.0.csv": f"gone,4.2\n{line}\n"}


def _kth_line(line: str) -> dict[str, str]:
    return {"00sequences.txt": f"{KTH}{line}\n"}


@pytest.mark.parametrize(
    ("name", "make", "lines", "says"),
    [
        (
            "charades",
            _charades_line,
            ("Y,c001 2.0 1.0,9", "Y,c001 1.0,9", "Y,c001 one 2,9", "Y,c001 -1 2,9"),
            r"Charades_v1_test\.csv, line 2: an action is a code.*'c001 [^']*'; correct or remove",
        ),
        (
            "charades",
            _charades_line,
            ("Y,c001 1 2,", "Y,c001 1 2,long", ",c001 1 2,9", "Y,c001 1 2,nan"),
            r"Charades_v1_test\.csv, line 2: needs id, length",
        ),
        ("charades", _charades_line, ("Y,c900 1 2,9",), "line 2: the action 'c900' is not in"),
        (
            "ava-kinetics",
            _ava_line,
            ("x,soon,1,1,1,1,2", "x,1,0,0,1,1,81", "x,1,0,0,1,1,0", "x,1,0,0", "x,-1,0,0,1,1,2"),
            r"kinetics_val_v1\.0\.csv, line 2: a line is video,timestamp.*got 'x,.*as it is dist",
        ),
        (
            "kth",
            _kth_line,
            (
                "person01_boxing_d1 frames 95-1",
                "person01_boxing_d1 frames",
                "person01_boxing_d1 1-95",
                "person01_dancing_d1 frames 1-95",
                "person26_boxing_d1 frames 1-95",
                "person01_boxing_d5 frames 1-95",
            ),
            r"00sequences\.txt, line 8: a line is a sequence.*got 'person.*as it is distributed",
        ),
    ],
)
def test_a_bad_line_is_one_error_with_file_line_value_and_remedy(
    name: str,
    make: Callable[[str], dict[str, str]],
    lines: Iterable[str],
    says: str,
    tmp_path: Path,
) -> None:
    touch(tmp_path, "v/film.mkv")
    for number, line in enumerate(lines):
        lists = write(tmp_path / str(number), make(line))
        with pytest.raises(DataError, match=says):
            read_dataset(name, tmp_path / "v", lists)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("ntu-60", "S018C001P001R001A001.avi", "setups to 17, performers to 40 and actions to 60"),
        ("ntu-120", "S001C001P107R001A001.avi", "performers to 106 .*correct the name"),
        ("ntu-60", "holiday.mp4", r"holiday\.mp4: names of this data set are such as S001C002P003"),
        ("weizmann", "daria_dance.avi", r"daria_dance\.avi: names .* such as daria_walk\.avi"),
        ("weizmann", "daria_walk.avi", "must be from 1 to 1, got 2"),
        ("le2i", "Home_01/Videos/a.avi", "no annotated video; needs folders such as Coffee_room"),
    ],
)
def test_a_name_that_does_not_fit_is_named(name: str, file: str, says: str, tmp_path: Path) -> None:
    touch(tmp_path, f"v/{file}")
    with pytest.raises(DataError, match=says):
        read_dataset(name, tmp_path / "v", split=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["12\n", "0\n5\n", "9\n9\n", "12\nsoon\n", "twelve\n20\n"])
def test_a_bad_annotation_of_a_fall_is_named(text: str, tmp_path: Path) -> None:
    folder = le2i(tmp_path / "le2i")
    (folder / "Home_01/Home_01/Annotation_files/video (2).txt").write_text(text)
    with pytest.raises(DataError, match=r"video \(2\)\.txt, line [12]: .*; correct the line, or"):
        read_dataset("le2i", folder)
