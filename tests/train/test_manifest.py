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
        (f"a.mp4,x\n{'b' * 200_000},x\n", "line 2 cannot be read as CSV: field larger than"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_manifest(write(tmp_path, text))


@pytest.mark.parametrize(
    "cell",
    [
        *("http://127.0.0.1:1/a.mp4", "rtsp://h/1", "file:///etc/passwd"),
        *("tcp://h/x.m3u8", "unix+x://a"),
    ],
)
def test_an_address_is_refused_with_line_and_remedy(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, f"a.mp4,x\n{cell},x\n")
    with pytest.raises(DataError) as raised:
        read_manifest(path)
    assert str(raised.value) == (
        f"manifest {path}, line 2: {cell!r} is an address, and a manifest names files only; save"
        " the video as a file and write its path"
    )


def test_the_message_about_an_address_holds_no_password(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"' HTTPS://\*\*\*@h/a\.mp4' is an") as raised:
        read_manifest(write(tmp_path, " HTTPS://u:sec?r@t@h/a.mp4?token=secret,x\n"))
    assert "sec" not in str(raised.value)


def test_names_with_colons_are_files_of_the_manifests_folder(tmp_path: Path) -> None:
    names = ["10:30.mp4", "door:1.mp4", "concat:a.mp4|b.mp4", "file:a.mp4", "subfile,,:a.mp4"]
    names += ["http:/a.mp4", "data:video/mp4;base64,AAAA", "pipe:0", "lavfi:testsrc"]
    path = write(tmp_path, "".join(f'"{name}",x\n' for name in names))
    assert [entry.path for entry in read_manifest(path).entries] == [
        tmp_path / name for name in names
    ]


@pytest.mark.parametrize(
    "cell", ["../a.mp4", " ../a.mp4 ", "in/../../a.mp4", "..\\a.mp4", "./..", "in/" + "../" * 99]
)
def test_a_relative_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, cell: str) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.mp4").touch()
    path = write(tmp_path / "lists", f"b.mp4,x\n{cell},x\n")
    with pytest.raises(DataError, match=r"m\.csv, line 2: .* leads out .*write an absolute path"):
        read_manifest(path)


def test_absolute_paths_and_links_may_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "far/a.mp4").touch()
    (tmp_path / "far/deep/a.mp4").touch()
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "link").symlink_to(tmp_path / "far/deep")
    (lists / "a.mp4").touch()
    path = write(lists, f"{tmp_path}/far/a.mp4,x\nlink/a.mp4,x\nlink/../a.mp4,x\na.mp4/..,x\n")
    assert [entry.path for entry in read_manifest(path).entries] == [
        tmp_path / "far/a.mp4",
        lists / "link/a.mp4",
        lists / "a.mp4",  # not far/a.mp4, to which the link's `..` leads
        lists,
    ]


def test_a_long_value_is_shown_in_part(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_manifest(write(tmp_path, f"http://{'a' * 100_000}\x1b[31m,x\n"))
    assert len(str(raised.value)) < 600


def test_the_number_of_entries_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.manifest._MAX_ENTRIES", 3)
    assert len(read_manifest(write(tmp_path, "a,x\nb,x\nc,x\n")).entries) == 3
    with pytest.raises(DataError, match=r"more than 3 entries.*data\.also"):
        read_manifest(write(tmp_path, "a,x\nb,x\nc,x\nd,x\n"))


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
