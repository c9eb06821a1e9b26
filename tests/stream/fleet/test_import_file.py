"""The files that can be imported, and what is refused before anything is written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from configs import ConfigError
from stream.fleet.import_file import prepare_cameras, read_cameras


@pytest.mark.parametrize(
    "text",
    [
        "- {id: a, url: rtsp://h/1}\n- {id: b, url: rtsp://h/2}",
        "clip: {hop: 3}\ncameras:\n- {id: a, url: rtsp://h/1}\n- {id: b, url: rtsp://h/2}",
        '{"cameras": {"a": {"id": "a", "url": "rtsp://h/1"}, "gone": null,'
        ' "b": {"id": "b", "url": "rtsp://h/2"}}, "paused": []}',
    ],
)
def test_each_kind_of_file_gives_the_same_cameras(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cameras"
    file.write_text(text)
    assert read_cameras(file) == [
        {"id": "a", "url": "rtsp://h/1"},
        {"id": "b", "url": "rtsp://h/2"},
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no list of cameras"),
        ("clip: {hop: 3}", "no list of cameras"),
        ("- a\n- b", "no list of cameras"),
        ("just text", "no list of cameras"),
        ("[", "is not valid YAML"),
        ("- {id: a, url: x}\n- {id: a, url: y}", "'a' is used more than once"),
    ],
)
def test_other_files_are_refused(text: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "cameras"
    file.write_text(text)
    with pytest.raises(ConfigError, match=part):
        read_cameras(file)
    with pytest.raises(ConfigError, match="not found"):
        read_cameras(tmp_path / "none")


def test_settings_of_all_cameras_are_named_because_they_stay_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "stream.yaml"
    file.write_text("cameras: [{id: a, url: rtsp://h/1}]\nevents: {smoothing: 3}\nsource: {}\n")
    with caplog.at_level(logging.WARNING):
        read_cameras(file)
    assert "give the workers its section events in their configuration" in caplog.text


def test_all_problems_are_named_once() -> None:
    cameras: list[dict[str, Any]] = [
        {"id": f"c{n}", "url": f"rtsp://u:hush@h/{n}"} for n in range(12)
    ]
    cameras += [{"url": "rtsp://h/1"}, {"id": "ok", "url": "rtsp://h/1"}]
    with pytest.raises(ConfigError) as caught:
        prepare_cameras(cameras, moves_secrets=False)
    message = str(caught.value)
    assert message.count("camera c3:") == 1
    assert message.endswith("and 3 more")
    assert "hush" not in message
    with pytest.raises(ConfigError, match="camera number 13: id: this setting is required"):
        prepare_cameras(cameras, moves_secrets=True)


def test_secrets_are_returned_by_the_names_in_the_addresses() -> None:
    prepared, secrets = prepare_cameras(
        [{"id": "a", "url": "rtsp://u:hush@h/1", "hop": 2}], moves_secrets=True
    )
    assert prepared == [{"id": "a", "url": "rtsp://u:${secret:a-password}@h/1", "hop": 2}]
    assert secrets == {"a-password": "hush"}
