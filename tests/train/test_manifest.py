"""Manifests: reading them, and checking their videos."""

from pathlib import Path

import pytest

from configs import DataError
from train.__main__ import main
from train.data.manifest import read_manifest


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode())
    return path


def test_entries_are_relative_to_the_manifest(tmp_path: Path) -> None:
    manifest = read_manifest(
        write(
            tmp_path, 'path,label,start_seconds,end_seconds\n"a, b.mp4",wave,,\nc.mp4,fall,1.5,2\n'
        )
    )
    assert [(entry.path, entry.label) for entry in manifest.entries] == [
        (tmp_path / "a, b.mp4", "wave"),
        (tmp_path / "c.mp4", "fall"),
    ]
    assert (manifest.entries[1].start_seconds, manifest.entries[1].end_seconds) == (1.5, 2.0)
    assert read_manifest(write(tmp_path, "a.mp4,x\r\n\r\nb.mp4,x\r\n")).counts == {"x": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\n", "has no entries"),
        ("path,label\na.mp4\n", "line 2: 1 columns"),
        ("a.mp4,x,1\n", "line 1: 3 columns"),
        ("a.mp4,\n", "must not be empty"),
        ("a.mp4,x,2,1\n", "0 <= start < end"),
        ("a.mp4,x,nan,1\n", "is not a time"),
        ("a.mp4,x,one,1\n", "'one' is not a time"),
        ('a.mp4,"x\n', "cannot be read as CSV"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_manifest(write(tmp_path, text))


def test_validate_counts_good_and_bad(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = scenes / "clips/fall/0000.mp4"
    (tmp_path / "good.mp4").write_bytes(good.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    manifest = write(tmp_path, "path,label\ngood.mp4,fall\n")
    assert main(["validate", str(manifest)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "files 1, good 1, bad 0"
    manifest = write(tmp_path, "path,label\ngood.mp4,fall\ncut.mp4,fall\nabsent.mp4,fall\n")
    assert main(["validate", str(manifest)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "files 3, good 1, bad 2"
    assert any("cut.mp4" in line and "cannot open" in line for line in lines)
    assert any("absent.mp4" in line and "No such file" in line for line in lines)
    assert main(["validate", str(tmp_path / "none.csv")]) == 2


def test_validate_agrees_with_the_list_of_real_files(
    shared_data: Path, shared_files: list[dict[str, str]], tmp_path: Path
) -> None:
    rows = [row for row in shared_files if row["path"].startswith("robust/mp4parse")]
    manifest = write(tmp_path, "".join(f"{shared_data / row['path']},x\n" for row in rows))
    from train.data.video_check import validate_manifest

    for row, report in zip(
        rows, validate_manifest(read_manifest(manifest), quiet=True), strict=True
    ):
        whole = row["frames_decoded"] not in ("", "0") and "error" not in row["notes"]
        assert (report.problem is None) == whole, row["path"]
