"""Lists of data sets that lead out of the folder of videos, or are not what they seem."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import DataError
from train.data.datasets import DatasetName, read_dataset
from train.data.manifest import read_manifest
from train.data.quarantine import Quarantine
from train.data.video_check import read_report
from train.evaluation.event_metrics import read_started_events

NAMES = ["classInd.txt", "trainlist01.txt", "testlist01.txt", "a_test_split1.txt", "labels.json"]
NAMES += ["train.json", "validation.json", "labels.csv", "train.csv", "validation.csv"]
KINETICS = "label,youtube_id,time_start,time_end\n"


def write_lists(folder: Path, video: str) -> Path:
    """Write the lists of every data set, each with the training video `video`; return the folder.

    The lists of UCF101 have the video in the folder of its label.
    """
    lists = {
        "classInd.txt": "1 a\n2 ..\n",
        "trainlist01.txt": f"{video} 1\n",
        "testlist01.txt": "a/1.avi\n",
        "a_test_split1.txt": f"{video} 1\n",
        "labels.json": json.dumps({"a": "0"}),
        "train.json": json.dumps([{"id": video, "template": "a"}]),
        "validation.json": "[]",
        "labels.csv": "a\n",
        "train.csv": f"{video};a\n",
        "validation.csv": "1;a\n",
        "kinetics/train.csv": f"{KINETICS}a,{video},1,2\n",
        "kinetics/val.csv": f"{KINETICS}a,1,1,2\n",
    }
    (folder / "kinetics").mkdir(parents=True)
    for name, text in lists.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "video"),
    [
        *(("ucf101", video) for video in ("../secret", "a/../../secret", "a/..", "a\\..\\..\\b")),
        *(("hmdb51", video) for video in ("../secret", "..", "/etc/passwd", "b/../../..")),
        *(("something-something-v2", video) for video in ("../secret", "/etc/passwd")),
        *(("jester", video) for video in ("../secret", "..", "/etc/passwd", "b/../../..")),
        *(("kinetics-400", video) for video in ("../secret", "/etc/passwd")),
    ],
)
def test_a_list_never_leads_out_of_the_folder_of_videos(
    name: DatasetName, video: str, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    lists = write_lists(tmp_path / "lists", video)
    folder = lists / "kinetics" if name == "kinetics-400" else lists
    with pytest.raises(DataError, match=r"(line|entry) \d: .* leads out of the folder of videos"):
        read_dataset(name, tmp_path / "videos", folder)


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": 1' + "0" * 5000 + "}", '{"a": "' + "9" * 5000 + '"}', "[" * 100_000, "7", "[]"),
        *('{"a": [[]]}', '{"a": null}', "NaN", '{"a": 1e999}'),
    ],
    ids=range(9),
)
def test_json_of_any_kind_is_refused_by_name(text: str, tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", "1")
    for name in ("labels.json", "train.json"):
        before = (lists / name).read_text()
        (lists / name).write_text(text if text != "[]" or name == "labels.json" else "7")
        with pytest.raises(DataError, match=rf"{name}(:|,| is not JSON)") as raised:
            read_dataset("something-something-v2", tmp_path, lists)
        assert len(str(raised.value)) < 600 + len(str(lists))
        (lists / name).write_text(before)


def test_links_to_everything_are_followed_once(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "v" / label).mkdir(parents=True)
        (tmp_path / "v" / label / "1.mp4").touch()
        (tmp_path / "v" / label / "2.mp4").touch()
        (tmp_path / "v" / label / "up").symlink_to(tmp_path / "v")
        (tmp_path / "v" / label / "zero.mp4").symlink_to("/dev/zero")
        os.mkfifo(tmp_path / "v" / label / "pipe.mp4")
        (tmp_path / "v" / label / "http:").mkdir()
    dataset = read_dataset("folder", tmp_path / "v", folds=2)
    assert sorted(str(video.path.relative_to(tmp_path / "v")) for video in dataset.videos) == [
        *("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4")
    ]


LINES = st.lists(
    st.sampled_from(
        [
            *(b"path", b"label", b"fps", b"start_seconds", b"a.mp4", b"x", b"1", b"-1", b"nan"),
            *(b"1e999", b"../a", b"/", b"..", b".", b"http://h", b"concat:a|b", b",", b";", b"\t"),
            *(b"\n", b"\r", b'"', b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"sep=;\n", b" "),
            *("½".encode(), "\u2028".encode(), b"\x1b[31m", b"9" * 5000, b"a" * 5000, b"\\"),
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=200) | LINES)
def test_any_bytes_are_a_list_or_an_error_of_the_project(tmp_path: Path, data: bytes) -> None:
    lists = tmp_path / "lists"
    path = lists / "m.csv"
    if not lists.exists():
        lists.mkdir()
        for name in NAMES:
            (lists / name).symlink_to(path)
    path.write_bytes(data)
    try:
        for entry in read_manifest(path).entries:
            inside = entry.path.is_relative_to(path.parent) and ".." not in entry.path.parts
            # A backslash in a path is a slash, so an absolute path may begin with one.
            assert inside or b"/" in data.replace(b"\\", b"/").replace(b"../a", b"")
    except DataError as error:
        assert len(str(error)) < 1500  # noqa: PT017 - either outcome is right
    for name in ("ucf101", "hmdb51", "something-something-v2", "jester", "kinetics-400"):
        try:
            read_dataset(name, tmp_path, lists)  # type: ignore[arg-type]
        except DataError as error:
            assert len(str(error)) < 1500  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "line",
    [
        *("[" * 100_000, "[]", "9" * 5000, "NaN", '{"kind": "started"}', "{}"),
        '{"kind": "started", "camera_id": {}, "action": [], "pts_start_seconds": 1, '
        '"started_at": "2026-01-01T00:00:00Z", "produced_at": "2026-01-01T00:00:00Z"}',
        '{"kind": "started", "camera_id": "a", "action": "b", "pts_start_seconds": NaN, '
        '"started_at": "2026-01-01T00:00:00Z", "produced_at": "2026-01-01T00:00:00Z"}',
        '{"kind": "started", "started_at": "' + "2" * 100_000 + '"}',
        '{"kind": "started", "camera_id": "a", "action": "b", "pts_start_seconds": 1, '
        '"started_at": "2026-01-01T00:00:00Z", "produced_at": "2026-01-01T00:00:00"}',
    ],
    ids=range(10),
)
def test_lines_that_are_not_events_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=r"events\.jsonl, line 1 is not an action event") as raised:
        read_started_events(path)
    assert len(str(raised.value)) < 600


def test_fields_of_megabytes_are_refused_in_every_csv_file(tmp_path: Path) -> None:
    (tmp_path / "quarantine.csv").write_text("a" * 10**6 + ",x\n")
    with pytest.raises(DataError, match=r"quarantine\.csv cannot be read as CSV \(field larger"):
        Quarantine(tmp_path / "quarantine.csv", max_videos=1)
    (tmp_path / "m.checked.csv").write_text("path,bytes\n" + "a" * 10**6 + ",1\n")
    with pytest.raises(DataError, match=r"m\.checked\.csv is not a report .*field larger"):
        read_report(tmp_path / "m.checked.csv")
    (tmp_path / "train.csv").write_text(KINETICS + "a" * 10**6 + ",x,1,2\n")
    with pytest.raises(DataError, match=r"train\.csv, line \d is not CSV: field larger"):
        read_dataset("kinetics-400", tmp_path, tmp_path)
