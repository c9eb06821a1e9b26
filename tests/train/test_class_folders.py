"""Folders of videos as people have them: litter, links, odd names, images."""

import os
import unicodedata
from pathlib import Path

import pytest
import yaml

from configs import DataError, parse_config
from tests.support.images import write_images
from tests.train.test_datasets import touch
from train.__main__ import main
from train.config import DataConfig
from train.data.datasets import Dataset, read_dataset, write_manifests
from train.data.manifest import read_manifest


def read(folder: Path) -> Dataset:
    return read_dataset("folder", folder, folds=2)


def found(dataset: Dataset, folder: Path) -> list[str]:
    return sorted(str(video.path.relative_to(folder)) for video in dataset.videos)


def test_litter_is_left_out_and_counted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("a/1.mp4", "a/2.MP4", "b/1.MTS", "b/2.m2ts", "b/3.dav", "b/4.3gp", "b/5.ts", "b/6.wmv"),
        *("__MACOSX/a/1.mp4", ".Trash-1000/1.mp4", "$RECYCLE.BIN/x/1.mp4", "lost+found/1.mp4"),
        *("System Volume Information/1.mp4", ".ipynb_checkpoints/1.mp4", "@eaDir/1.mp4"),
        *("a/._1.mp4", "a/@eaDir/1.mp4/SYNOVIDEO.mp4", "a/Thumbs.db", "a/desktop.ini"),
        *("a/.DS_Store", "a/3.mp4.part", "a/4.mp4.crdownload", "a/~$x.mp4", "a/notes.TXT"),
        *("a/b.txt", "a/README", "readme.md", "loose.avi"),
    )
    dataset = read(tmp_path)
    assert dataset.labels == ("a", "b")
    assert found(dataset, tmp_path) == [
        *("a/1.mp4", "a/2.MP4"),
        *("b/1.MTS", "b/2.m2ts", "b/3.dav", "b/4.3gp", "b/5.ts", "b/6.wmv"),
    ]
    assert dataset.notices == (
        "left out 8 files: 2 .txt, 1 without extension, 1 .crdownload, 1 .db, 1 .ini, 1 .md,"
        " 1 .part; hidden 4; litter 7 ($RECYCLE.BIN, @eaDir, System Volume Information, __MACOSX,"
        " lost+found, ~$x.mp4)",
        f"videos outside of a class folder left out: 1 ({tmp_path / 'loose.avi'})",
    )


def test_links_are_followed_once_and_broken_ones_named(tmp_path: Path) -> None:
    videos = tmp_path / "v"
    touch(videos, "a/1.mp4", "a/deep/er/2.mp4", "b/1.mp4", "b/2.mp4")
    touch(tmp_path, "elsewhere/3.mp4", "other/4.mp4")
    (videos / "a/linked").symlink_to(tmp_path / "elsewhere")
    (videos / "c").symlink_to(tmp_path / "other")
    (videos / "a/up").symlink_to(videos)
    (videos / "a/deep/er/loop").symlink_to(videos / "a/deep")
    (videos / "a/again.mp4").symlink_to(videos / "a/1.mp4")
    (videos / "a/self.mp4").symlink_to(videos / "a/self.mp4")
    (videos / "b/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (videos / "gone").symlink_to(tmp_path / "nowhere")
    dataset = read(videos)
    assert dataset.labels == ("a", "b", "c")
    assert found(dataset, videos) == [
        *("a/1.mp4", "a/deep/er/2.mp4", "a/linked/3.mp4", "b/1.mp4", "b/2.mp4", "c/4.mp4")
    ]
    notices = "\n".join(dataset.notices)
    assert "broken links left out: 3 (" in notices
    assert str(videos / "b/gone.mp4") in notices
    assert f"further links to the same video left out: 1 ({videos / 'a/again.mp4'})" in notices
    (videos / "twin").symlink_to(videos / "b")
    notices = "\n".join(read(videos).notices)
    assert f"links put 4 videos into several classes (first: {videos / 'b/1.mp4'})" in notices


def test_folders_without_videos_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/1.mp4", "pictures/cat.jpg", "pictures/dog.jpg")
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "flat", [1, 2, 3])
    dataset = read(tmp_path)
    assert dataset.labels == ("a", "b")
    assert dataset.notices == (
        "left out 5 files: 5 .jpg",
        "images left out, because each video of images needs its own folder: 1"
        f" ({tmp_path / 'flat'})",
        f"class folders without videos left out: 3 ({tmp_path / 'empty'}, {tmp_path / 'flat'},"
        f" {tmp_path / 'pictures'})",
    )
    with pytest.raises(DataError, match=r"at least two classes, found \[\]; left out 2 files"):
        read_dataset("folder", tmp_path / "pictures")


def test_folders_of_images_are_videos(tmp_path: Path) -> None:
    for name in ("a/v_1", "a/person/v_2", "b/v_3", "b/v_4"):
        write_images(tmp_path / name, [1, 2], "img_{:05d}.jpg")
    write_images(tmp_path / "a/v_1", [1, 2], "flow_x_{:05d}.jpg")
    write_images(tmp_path / "b/one", [1])
    write_images(tmp_path / "b/film", [1, 2])
    touch(tmp_path, "b/film.avi", "a/v_1/Thumbs.db")
    dataset = read(tmp_path)
    assert found(dataset, tmp_path) == ["a/person/v_2", "a/v_1", "b/film.avi", "b/v_3", "b/v_4"]
    assert dataset.notices == (
        "left out 4 files: 3 .jpg, 1 .db",
        f"folders of images left out, beside a video of the same name: 1 ({tmp_path / 'b/film'})",
    )
    write_manifests(dataset, tmp_path / "out", image_fps=12)
    entries = read_manifest(tmp_path / "out/train.csv").entries
    entries += read_manifest(tmp_path / "out/validation.csv").entries
    assert {entry.path.name: entry.fps for entry in entries} == {
        **{f"v_{number}": 12.0 for number in (1, 2, 3, 4)},
        "film.avi": None,
    }


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        (b"wave ", "wave"),
        (b" wave", "wave"),
        ("größer".encode(), "größer"),
        (unicodedata.normalize("NFD", "größer").encode(), "größer"),
        (b"hand\nshaking", "hand shaking"),
        (b"hand\tshaking", "hand shaking"),
        (b'a "b", c; d', 'a "b", c; d'),
        (b"a\\b", "a\\b"),
        (b"caf\xe9", "caf\\xe9"),
        (b"-dash", "-dash"),
        (b"#1: yes", "#1: yes"),
        (b"null", "null"),
    ],
)
def test_the_lists_of_odd_names_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: bytes, label: str
) -> None:
    videos = tmp_path / "v"
    touch(videos, "walk/1.mp4", "walk/2.mp4")
    odd = os.fsencode(videos) + b"/" + folder
    os.mkdir(odd)  # noqa: PTH102 - a name of bytes
    for name in (b"1.mp4", b" 2, \xe9\n.mp4", b"\\3.mp4", b"4;.mp4"):
        Path(os.fsdecode(odd + b"/" + name)).write_bytes(name)
    arguments = ["--videos", str(videos), "--folds", "2", "--out", str(tmp_path / "out")]
    assert main(["manifest", "folder", *arguments]) == 0
    assert "2 labels; " in capsys.readouterr().out
    entries = [
        entry
        for name in ("train.csv", "validation.csv")
        for entry in read_manifest(tmp_path / "out" / name).entries
    ]
    assert len(entries) == 6
    ours = [entry for entry in entries if entry.label == label]
    assert sorted(entry.path.read_bytes() for entry in ours) == [
        *(b" 2, \xe9\n.mp4", b"1.mp4", b"4;.mp4", b"\\3.mp4")
    ]
    text = (tmp_path / "out/data.yaml").read_text(encoding="utf-8")
    data = parse_config(yaml.safe_dump(yaml.safe_load(text)["data"]), DataConfig)
    assert set(data.labels) == {"walk", label}


def test_lists_behind_a_link_lead_to_the_videos(tmp_path: Path) -> None:
    touch(tmp_path, "v/a/1.mp4", "v/b/1.mp4")
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far/away")
    write_manifests(read(tmp_path / "v"), tmp_path / "out")
    for folder in ("out", "far/away"):
        (entry,) = read_manifest(tmp_path / folder / "train.csv").entries
        assert entry.path.is_file()


def test_lists_name_videos_outside_their_folder_by_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "v/a/1.mp4", "v/b/1.mp4")
    monkeypatch.chdir(tmp_path)
    for out, cell in (("lists", f"{tmp_path}/v/a/1.mp4"), (".", "v/a/1.mp4"), ("v", "a/1.mp4")):
        write_manifests(read(Path("v")), Path(out))
        lists = (Path(out) / name for name in ("train.csv", "validation.csv"))
        assert f"{cell},a\n" in "".join(path.read_text() for path in lists)


def test_names_that_look_alike_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "wave/1.mp4", "wave /2.mp4", "Run/1.mp4", "run/1.mp4")
    touch(tmp_path, "größer/1.mp4", unicodedata.normalize("NFD", "größer") + "/2.mp4")
    dataset = read(tmp_path)
    assert dataset.labels == ("Run", "größer", "run", "wave")
    assert len(dataset.videos) == 6
    notices = "\n".join(dataset.notices)
    assert "'wave', 'wave ' differ only in blanks" in notices
    assert r"'gro\u0308\xdfer', 'gr\xf6\xdfer' differ only in blanks" in notices
    assert "the labels 'Run', 'run' differ only in upper and lower case" in notices


def test_the_command_tells_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "v"
    touch(videos, "a/1.mp4", "b/1.mp4", "a/x.txt", "a/y.txt", "a/Thumbs.db", "a/.DS_Store")
    write_images(videos / "a/2", [1, 2])
    arguments = ["manifest", "folder", "--videos", str(videos), "--folds", "2"]
    arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "left out 3 files: 2 .txt, 1 .db; hidden 1\n" in out
    assert "1 of the videos are folders of images, taken at 25 frames per second" in out
    assert main([*arguments, "--image-fps", "12"]) == 0
    assert "taken at 12 frames per second" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--image-fps", "0"])
