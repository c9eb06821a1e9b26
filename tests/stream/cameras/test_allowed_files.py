"""Which files cameras may name that were described over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from configs import ConfigError
from stream.cameras.allowed_files import AllowedFiles
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig


def camera(url: str, **settings: Any) -> CameraConfig:
    return CameraConfig.model_validate({"id": "b", "url": url} | settings)


def with_authorities(path: object, url: str = "rtsps://h/b") -> CameraConfig:
    return camera(url, source={"tls_verify": True, "tls_ca_file": str(path)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is allowed, beside a secret that is not, and links that lead out of it."""
    inside = tmp_path / "videos"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep/a.mp4").touch()
    (tmp_path / "secret").write_text("password")
    (tmp_path / "videos-of-others").mkdir()
    (tmp_path / "videos-of-others/a.mp4").touch()
    (inside / "link.mp4").symlink_to(tmp_path / "secret")
    (inside / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (inside / "out").symlink_to(tmp_path)
    (inside / "loop").symlink_to(inside / "loop")
    os.mkfifo(inside / "pipe")
    return inside


def refusal(allowed: AllowedFiles, described: CameraConfig) -> str:
    with pytest.raises(ConfigError) as raised:
        allowed.check(described)
    return str(raised.value)


def test_files_below_an_entry_are_allowed_whether_they_exist_or_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = AllowedFiles([folder], [], SourceConfig())
    for url in ("deep/a.mp4", "missing.mp4", "deep/../missing/b.mp4", "loop"):
        allowed.check(camera(str(folder / url)))
    allowed.check(camera(f"file://{folder}/deep/a.mp4"))
    monkeypatch.chdir(folder)
    for entry in (Path("deep"), Path(), folder / "deep/a.mp4"):
        AllowedFiles([entry], [], SourceConfig()).check(camera(str(folder / "deep/a.mp4")))
    # An entry may itself be a link, and the path may be given without it.
    entry = folder.parent / "entry"
    entry.symlink_to(folder)
    AllowedFiles([entry], [], SourceConfig()).check(camera(str(folder / "deep/a.mp4")))


def test_what_lies_or_leads_outside_is_refused_in_the_same_words(folder: Path) -> None:
    allowed = AllowedFiles([folder], [], SourceConfig())
    said = {
        refusal(allowed, camera(url)).replace(url, "PATH")
        for url in (
            str(folder.parent / "secret"),
            str(folder.parent / "nothing"),
            str(folder.parent),
            str(folder.parent / "videos-of-others/a.mp4"),
            str(folder / "link.mp4"),
            str(folder / "dangling.mp4"),
            str(folder / "out/secret"),
            str(folder / "out/nothing"),
            str(folder / "../secret"),
            str(folder / "deep/../../secret"),
            "/" + "x" * 3000,
            "/dev/video0",
            "/dev/null",
        )
    }
    (only,) = said
    assert only.startswith("camera b: PATH is outside")
    assert "http.files" in only


@pytest.mark.parametrize(
    "url",
    [
        "deep/a.mp4",
        "../secret",
        "file:../secret",
        "concat:../secret|../secret",
        "subfile,,start,0,end,99,,:/etc/passwd",
        "pipe:0",
    ],
)
def test_a_relative_path_is_refused_because_it_could_be_a_protocol(
    folder: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(folder)
    allowed = AllowedFiles([Path("/")], [], SourceConfig())
    assert "write the whole path" in refusal(allowed, camera(url))
    assert "write the whole path" in refusal(allowed, with_authorities(url))


def test_nothing_is_allowed_by_default_but_addresses(folder: Path) -> None:
    allowed = AllowedFiles([], [], SourceConfig())
    allowed.check(camera("rtsp://h/b"))
    allowed.check(camera("https://h/secret"))
    assert "http.files" in refusal(allowed, camera(str(folder / "deep/a.mp4")))
    assert "http.files" in refusal(allowed, camera("/dev/video7"))


def test_pipes_and_devices_are_refused_as_files(folder: Path) -> None:
    allowed = AllowedFiles([folder, Path("/dev")], [], SourceConfig())
    allowed.check(camera("/dev/video7"))
    for path in (folder / "pipe", Path("/dev/null")):
        assert "is a pipe, a socket or a device" in refusal(allowed, camera(str(path)))
        assert "is a pipe, a socket or a device" in refusal(allowed, with_authorities(path))


def test_authorities_are_files_too(folder: Path) -> None:
    allowed = AllowedFiles([folder], [], SourceConfig())
    allowed.check(with_authorities(folder / "ca.pem"))
    existing, missing = (
        refusal(allowed, with_authorities(path)).replace(str(path), "PATH")
        for path in (folder.parent / "secret", folder.parent / "nothing")
    )
    assert existing == missing
    assert "source.tls_ca_file PATH is outside" in existing
    assert "is outside" in refusal(allowed, with_authorities("/a\0b"))


def test_what_the_configuration_gives_a_camera_stays_allowed_for_it_alone(folder: Path) -> None:
    outside, authorities = folder.parent / "secret", folder.parent / "ca.pem"
    configured = with_authorities(authorities, str(outside))
    shared = SourceConfig(tls_verify=True, tls_ca_file="/etc/shared.pem")
    allowed = AllowedFiles([], [configured], shared)
    allowed.check(configured.model_copy(update={"hop": 2}))
    allowed.check(with_authorities("/etc/shared.pem", str(outside)))
    other = configured.model_copy(update={"id": "c"})
    assert "is outside" in refusal(allowed, other)
    assert "is outside" in refusal(allowed, camera("/etc/passwd"))
    assert "is outside" in refusal(allowed, with_authorities("/etc/other.pem"))


def test_only_the_configuration_file_names_a_program() -> None:
    def with_program(path: str, camera_id: str = "b") -> CameraConfig:
        named = camera("srt://127.0.0.1:9", source={"ffmpeg": path})
        return named.model_copy(update={"id": camera_id})

    configured = with_program("/opt/own", "c")
    allowed = AllowedFiles([Path("/")], [configured], SourceConfig(ffmpeg=Path("/opt/ffmpeg")))
    allowed.check(with_program("/opt/ffmpeg"))
    allowed.check(configured)
    for path in ("/bin/sh", "/opt/own", "/opt/ffmpeg/../own"):
        assert "names a program to run" in refusal(allowed, with_program(path))


def test_no_other_setting_of_a_camera_names_a_file() -> None:
    """A setting with one of these words is a path that `AllowedFiles` must check."""
    words = ("file", "path", "folder", "directory", "url")

    def fields(model: type[BaseModel], prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
            for each in inner:
                if isinstance(each, type) and issubclass(each, BaseModel):
                    found += fields(each, f"{prefix}{name}.")
            if any(word in name for word in words) or Path in inner:
                found.append(prefix + name)
        return found

    assert sorted(fields(CameraConfig)) == ["source.ffmpeg", "source.tls_ca_file", "url"]
