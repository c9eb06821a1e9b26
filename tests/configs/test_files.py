"""Files are replaced as a whole, and never written through what somebody put in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from configs import naming_errors, replaced_file, write_file
from tests.support.permissions import another_user, mode_of, umask


def replace_by_name(path: Path, content: str) -> None:
    with replaced_file(path, mode=0o600) as partial:
        partial.write_text(content)


def replace_by_link(path: Path, victim: Path) -> None:
    with replaced_file(path, mode=0o666) as partial:
        partial.unlink()
        partial.symlink_to(victim)


def write_private(path: Path, content: str) -> None:
    write_file(path, content, mode=0o600)


WAYS = pytest.mark.parametrize("write", [replace_by_name, write_private])


def write_half(path: Path) -> None:
    with replaced_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    with replaced_file(path, mode=0o600, durable=True) as partial:
        partial.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    assert mode_of(path) == 0o600
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_error_of_the_file(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError, match="No space left") as raised, naming_errors(tmp_path / "a"):
        full.write_text("text")
    assert raised.value.filename == str(tmp_path / "a")
    with pytest.raises(OSError, match="No space left") as raised, replaced_file(tmp_path / "b"):
        full.write_text("text")
    assert raised.value.filename == str(tmp_path / "b")
    with pytest.raises(FileNotFoundError) as raised, naming_errors(tmp_path / "a"):
        (tmp_path / "c").read_text()
    assert raised.value.filename == str(tmp_path / "c")


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_file(path, "ümlaut", durable=True)
    write_file(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00"
    write_file(path, "ümlaut")
    assert path.read_bytes() == b"\xc3\xbcmlaut"
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\udcff")
    assert path.read_bytes() == b"\xc3\xbcmlaut"
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_file(path, "old")
    real = os.open

    def full(name: str | Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_EXCL:
            return real("/dev/full", os.O_WRONLY)
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_file(path, "new")
    assert raised.value.filename == str(path)
    assert path.read_text() == "old"


@WAYS
def test_the_umask_neither_widens_nor_narrows_given_permissions(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    for mask in (0, 0o077):
        path = tmp_path / f"new-{mask}" / "deeper" / "file"
        with umask(mask):
            write(path, "text")
        assert mode_of(path) == 0o600
        assert mode_of(path.parent) == 0o700
        assert mode_of(path.parent.parent) == 0o700


@WAYS
def test_a_link_in_place_of_the_partial_file_is_not_followed(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o644)
    path = tmp_path / "file"
    (tmp_path / "file.part").symlink_to(victim)
    write(path, "text")
    assert path.read_text() == "text"
    assert not path.is_symlink()
    assert victim.read_text() == "untouched"
    assert mode_of(victim) == 0o644


def test_what_is_put_in_place_of_the_partial_file_meanwhile_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the folder swaps the file for a link right after its creation."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o644)
    partial = tmp_path / "file.part"
    real = os.open

    def create_and_swap(name: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(name, flags, mode)
        if Path(name) == partial and flags & os.O_CREAT:
            partial.unlink()
            partial.symlink_to(victim)
        return descriptor

    monkeypatch.setattr(os, "open", create_and_swap)
    write_file(tmp_path / "file", "secret", mode=0o600, durable=True)
    assert victim.read_text() == "untouched"
    assert mode_of(victim) == 0o644


def test_a_link_put_in_place_of_a_librarys_file_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch(0o644)
    path = tmp_path / "file"
    with pytest.raises(OSError, match="symbolic link"):
        replace_by_link(path, victim)
    assert mode_of(victim) == 0o644
    assert not os.path.lexists(path)


@WAYS
def test_a_folder_or_a_foreign_file_with_the_partial_name_does_not_stop_it(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.part").mkdir()
    (tmp_path / "file.part" / "x").touch()
    write(path, "first")
    assert path.read_text() == "first"
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "file.part"]


@WAYS
def test_a_partial_file_of_another_user_does_not_stop_it(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)  # as /tmp: nobody may remove the files of others
    (folder / "file.part").touch()
    with another_user(folder):
        write(folder / "file", "text")
    assert (folder / "file").read_text() == "text"
    assert sorted(each.name for each in folder.iterdir()) == ["file", "file.part"]
