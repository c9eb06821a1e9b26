"""A lock file lets one process in, and nobody else may open it."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from configs import ConfigError
from configs.file_lock import FileLock, is_locked
from tests import ROOT
from tests.support.permissions import mode_of, umask


def lock(path: Path) -> FileLock:
    return FileLock(path, ConfigError("in use"))


def test_one_process_holds_it_until_it_releases_it_or_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, time; from configs import ConfigError; from configs.file_lock import FileLock;"
        "held = FileLock(__import__('pathlib').Path(sys.argv[1]), ConfigError('in use'));"
        "print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert is_locked(path)
        with pytest.raises(ConfigError, match="in use"):
            lock(path)
        process.kill()
    assert not is_locked(path)
    held = lock(path)
    assert is_locked(path)
    held.release()
    assert not is_locked(path)


def test_it_says_whether_it_is_new(tmp_path: Path) -> None:
    held = lock(tmp_path / "lock")
    assert held.is_new
    held.release()
    held = lock(tmp_path / "lock")
    assert not held.is_new
    held.remove()
    held.release()
    assert not is_locked(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    """Whoever may open it could hold the lock; earlier releases created it for all."""
    (tmp_path / "old").touch(0o644)
    with umask(0):
        for name in ("new", "old"):
            lock(tmp_path / name).release()
    assert [mode_of(tmp_path / name) for name in ("new", "old")] == [0o600, 0o600]


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        lock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        lock(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_asking_does_not_disturb_others_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with contextlib.closing(path.open("rb")) as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not is_locked(path)
