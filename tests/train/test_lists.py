"""Lists and manifests as editors, spreadsheets and other systems write them."""

import csv
import json
import logging
import os
from pathlib import Path

import pytest

from configs import DataError
from tests.support.images import write_images
from tests.train.test_datasets import touch
from train.__main__ import main
from train.config import DataConfig
from train.data.datasets import Dataset, read_dataset
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.video_check import FileReport, read_report, write_report
from train.evaluation.event_metrics import read_started_events

BOM = "\ufeff"


def entries(tmp_path: Path, content: bytes | str) -> tuple[ManifestEntry, ...]:
    path = tmp_path / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(path).entries


@pytest.mark.parametrize(
    "content",
    [
        "path,label\r\na b.mp4,größer\r\n\r\n",
        BOM + "path,label\na b.mp4,größer",
        (BOM + "path;label\r\na b.mp4;größer\r\n").encode("utf-16-le"),
        "path;label;;\r\na b.mp4;größer;;\r\n;;;\r\n",
        "path\tlabel\ra b.mp4\tgrößer\r",
        'Label , Path\n"größer","a b.mp4"\n',
        BOM + '"a b.mp4","größer"\n',
        "a b.mp4 , größer \n",
        "\na b.mp4;gro\u0308ßer\n",
        "label,fps,path\ngrößer,,a b.mp4\n",
        "sep=;\r\na b.mp4;größer\r\n",
    ],
)
def test_a_manifest_by_any_editor(tmp_path: Path, content: bytes | str) -> None:
    assert entries(tmp_path, content) == (ManifestEntry(tmp_path / "a b.mp4", "größer"),)


def test_times_and_frame_rates(tmp_path: Path) -> None:
    text = "path;label;start_seconds;end_seconds\nc.mp4;fall;1,5;2\n"
    assert entries(tmp_path, text) == (ManifestEntry(tmp_path / "c.mp4", "fall", 1.5, 2.0),)
    assert entries(tmp_path, "v,fall,,,12\n") == (ManifestEntry(tmp_path / "v", "fall", fps=12.0),)
    assert entries(tmp_path, "path,label,fps\nv,fall,29.97\n")[0].fps == 29.97
    for text, says in (
        ("v,fall,,,0\n", r"line 1: fps 0\.0 must be from 0\.1 to 1000"),
        ("v,fall,,,fast\n", "'fast' is not a frame rate"),
        ("v,fall,1,,\n", "must be given together"),
        ("path,label,rate\nv,fall,1\n", "line 1: the columns"),
        ("path,label,fps\nv,fall\n", "line 2: 2 columns, but the header has 3"),
        ("ok.mp4,x\na.mp4,caf\xe9\n".encode("latin-1"), r"line 2: the label 'caf\\xe9'.* UTF-8"),
        ("a.mp4,x\n".encode("utf-16-le"), "zero byte"),
    ):
        with pytest.raises(DataError, match=says):
            entries(tmp_path, text)


def test_the_path_that_exists_is_meant(tmp_path: Path) -> None:
    touch(tmp_path, "wave/1.mp4", "a\\b.mp4", " blank.mp4 ", "c.mp4")
    names = ["wave\\1.mp4", "a\\b.mp4", " blank.mp4 ", " c.mp4 ", "no\\where.mp4"]
    names += [str(tmp_path / "c.mp4")]
    found = entries(tmp_path, "".join(f'"{name}",x\n' for name in names))
    assert [str(entry.path.relative_to(tmp_path)) for entry in found] == [
        *("wave/1.mp4", "a\\b.mp4", " blank.mp4 ", "c.mp4", "no\\where.mp4", "c.mp4")
    ]


def test_repetitions_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(entries(tmp_path, "a.mp4,x\nb.mp4,x\na.mp4,x\nb.mp4,y\n")) == 4
    assert "lists 1 entries more than once" in caplog.text
    assert "gives 1 videos more than one label" in caplog.text


def test_names_that_are_not_utf8_survive_every_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    path.write_bytes(b"no video")
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(b"caf\xe9.mp4,x\n")
    assert read_manifest(manifest).entries[0].path.read_bytes() == b"no video"
    assert main(["validate", str(manifest)]) == 1
    assert "caf\\xe9.mp4: cannot open" in capsys.readouterr().out
    report = read_report(tmp_path / "m.checked.csv")
    assert list(report) == [path]
    write_report([FileReport(path, 3, None)], tmp_path / "r.csv")
    marked = (tmp_path / "r.csv").read_bytes()
    (tmp_path / "r.csv").write_bytes(BOM.encode() + marked)
    assert [report.problem for report in read_report(tmp_path / "r.csv").values()] == [None]
    assert set(read_report(tmp_path / "r.csv")) == {path}
    entry = ManifestEntry(path, "x")
    Quarantine(tmp_path / "quarantine.csv", max_videos=2).add(entry, "broken")
    assert entry in Quarantine(tmp_path / "quarantine.csv", max_videos=2)


def changed(text: str, change: str) -> bytes:
    lines = text.splitlines()
    if change == "windows":
        return (BOM + "\r\n".join(line + "  " for line in lines) + "\r\n\r\n").encode()
    if change == "utf-16":
        return "\n".join(lines).encode("utf-16")
    if change == "old mac":
        return ("\r".join(lines) + "\r").encode()
    return ("\n" + "\n\n".join(lines) + "\n \n").encode()


@pytest.mark.parametrize("change", ["windows", "utf-16", "old mac", "blank lines"])
def test_official_lists_after_any_editor(tmp_path: Path, change: str) -> None:
    lists = {
        "classInd.txt": "1 Apply Make\n2 Bow\n",
        "trainlist01.txt": "Apply Make/v a.avi 1\nBow\\v_b.avi 2\n",
        "testlist01.txt": "Bow/v_c.avi\n",
        "brush_test_split1.txt": "a b.avi 1 \nc.avi 2\n",
        "wave_test_split1.txt": "d.avi 0\ne.avi 1\n",
        "labels.json": json.dumps({"Holding something": "1", "Größer": "0"}, indent=1),
        "train.json": json.dumps([{"id": "7", "template": "Holding [something]"}], indent=1),
        "validation.json": json.dumps([{"id": "8", "template": "Größer"}], indent=1),
        "jester-v1-labels.csv": "Swiping Left\nNo gesture\n",
        "jester-v1-train.csv": "34870;No gesture\n",
        "jester-v1-validation.csv": "9;Swiping Left\n",
        "train.csv": "label,youtube_id,time_start,time_end,split\nair drumming,-abc,7,17,train\n",
        "validate.csv": 'label,youtube_id,time_start,time_end,split\n"zumba",x,1,2,validate\n',
    }
    for name, text in lists.items():
        (tmp_path / name).write_bytes(changed(text, change))
    touch(tmp_path, "._brush_test_split1.txt")
    videos = tmp_path / "videos"
    videos.mkdir()

    def read(name: str) -> tuple[tuple[str, ...], list[tuple[str, str, str]]]:
        dataset = read_dataset(name, videos, tmp_path)  # type: ignore[arg-type]
        return dataset.labels, [
            (str(video.path.relative_to(videos)), video.label, video.part)
            for video in dataset.videos
        ]

    assert read("ucf101") == (
        ("Apply Make", "Bow"),
        [
            ("Apply Make/v a.avi", "Apply Make", "train"),
            ("Bow/v_b.avi", "Bow", "train"),
            ("Bow/v_c.avi", "Bow", "validation"),
        ],
    )
    assert read("hmdb51") == (
        ("brush", "wave"),
        [
            ("brush/a b.avi", "brush", "train"),
            ("brush/c.avi", "brush", "validation"),
            ("wave/e.avi", "wave", "train"),
        ],
    )
    assert read("something-something-v2") == (
        ("Größer", "Holding something"),
        [("7.webm", "Holding something", "train"), ("8.webm", "Größer", "validation")],
    )
    assert read("jester") == (
        ("Swiping Left", "No gesture"),
        [("34870", "No gesture", "train"), ("9", "Swiping Left", "validation")],
    )
    assert read("kinetics-400") == (
        ("air drumming", "zumba"),
        [
            ("air drumming/-abc_000007_000017.mp4", "air drumming", "train"),
            ("zumba/x_000001_000002.mp4", "zumba", "validation"),
        ],
    )


def ucf(tmp_path: Path, train: str, test: str) -> Dataset:
    for name, text in (
        ("classInd.txt", "1 A\n2 B\n"),
        ("trainlist01.txt", train),
        ("testlist01.txt", test),
    ):
        (tmp_path / name).write_text(text)
    return read_dataset("ucf101", tmp_path, tmp_path)


def test_official_lists_find_folders_of_images(tmp_path: Path) -> None:
    write_images(tmp_path / "A/v_1", [1, 2])
    write_images(tmp_path / "v_2", [1, 2])
    (tmp_path / "A/v_3").mkdir()
    dataset = ucf(tmp_path, "A/v_1.avi 1\nB/v_2.avi 2\n", "A/v_3.avi\n")
    assert [video.path for video in dataset.videos] == [
        *(tmp_path / "A/v_1", tmp_path / "v_2", tmp_path / "A/v_3.avi")
    ]
    assert dataset.image_fps == 25


def test_repetitions_in_official_lists(tmp_path: Path) -> None:
    dataset = ucf(tmp_path, "A/1.avi 1\nA/1.avi 1\nB/2.avi 2\n", "A/1.avi\n")
    assert len(dataset.videos) == 3
    assert dataset.notices == (
        "left out 1 repetitions in the lists",
        f"warning: 1 videos are in both parts (first: {tmp_path / 'A/1.avi'})",
    )


@pytest.mark.parametrize(
    ("name", "file", "text", "says"),
    [
        ("jester", "jester-v1-train.csv", "1;Jump\n", "line 1: a line is video;label"),
        ("jester", "jester-v1-labels.csv", "\udcff", "line 1: not UTF-8"),
        ("something-something-v2", "train.json", "[1]", "entry 0: needs id and template"),
        ("something-something-v2", "labels.json", '{"a": "x"}', "map each label to its number"),
        ("kinetics-400", "train.csv", 'label\n"x\n', "is not CSV"),
        ("kinetics-400", "train.csv", "\n\nlabel\nwave\n", "line 4: needs label"),
    ],
)
def test_malformed_lists_are_named(
    tmp_path: Path, name: str, file: str, text: str, says: str
) -> None:
    (tmp_path / "jester-v1-labels.csv").write_text("Wave\n")
    (tmp_path / "jester-v1-validation.csv").write_text("2;Wave\n")
    (tmp_path / "labels.json").write_text('{"a": "0"}')
    (tmp_path / "validate.csv").write_text("label,youtube_id,time_start,time_end\n")
    (tmp_path / file).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=says):
        read_dataset(name, tmp_path, tmp_path)  # type: ignore[arg-type]


def test_labels_of_a_configuration_are_cleaned_as_those_of_a_manifest(tmp_path: Path) -> None:
    fields = {"train": "t", "validation": "v", "labels": ("gro\u0308ßer ", "walk")}
    data = DataConfig.model_validate(fields | {"background": " walk"})
    assert data.labels == ("größer", "walk")
    assert data.background == "walk"
    assert set(data.labels) == {entry.label for entry in entries(tmp_path, "a,größer\nb,walk\n")}


def test_event_files_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    event = {"kind": "ended"}
    (tmp_path / "e.jsonl").write_bytes((json.dumps(event) + "\r\n\r\n").encode("utf-16"))
    assert read_started_events(tmp_path / "e.jsonl") == []


def test_a_report_is_csv_for_other_programs(tmp_path: Path) -> None:
    write_report([FileReport(tmp_path / 'a, "b".mp4', 0, "cut")], tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["path"] == str(tmp_path / 'a, "b".mp4')
