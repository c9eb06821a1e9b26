"""The file of changes: for its owner only, and never written through what lies in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from configs import ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from tests.support.permissions import mode_of, umask

CAMERA = CameraConfig(id="door", url="rtsp://user:hunter2@host/1")


def test_passwords_in_the_file_are_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "changes.json"
    with umask(0):
        CameraOverrides(path).note("door", CAMERA)
    assert "hunter2" in path.read_text()
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert CameraOverrides(path).apply([]) == [CAMERA]


def test_the_file_is_not_opened_again_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the folder swaps the new file for a link to a file of theirs."""
    theirs = tmp_path / "theirs"
    theirs.touch()
    path = tmp_path / "changes.json"
    real = os.open

    def create_and_swap(name: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(name, flags, mode)
        if flags & os.O_EXCL:
            Path(name).unlink()
            Path(name).symlink_to(theirs)
        return descriptor

    monkeypatch.setattr(os, "open", create_and_swap)
    CameraOverrides(path).note("door", CAMERA)
    assert theirs.read_text() == ""


def test_a_change_that_cannot_be_kept_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "changes.json"
    overrides = CameraOverrides(path)
    overrides.note("door", CAMERA)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"cannot be kept in .*set http\.changes to a file"):
        overrides.note("yard", CAMERA.model_copy(update={"id": "yard"}))
    assert overrides.apply([]) == [CAMERA]
    path.rmdir()
    overrides.pause("door", paused=True)
    assert list(json.loads(path.read_text())["cameras"]) == ["door"]
