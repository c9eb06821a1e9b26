"""Files and folders for one user, whatever the umask, and files that others may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.private_files import (
    create_private,
    exposure_of,
    make_private_folder,
    narrow,
    warn_of_exposed_file,
)
from tests.support.permissions import another_user, mode_of, umask


def test_new_folders_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    with umask(0):
        make_private_folder(shared / "a/b")
        assert create_private(shared / "a/b/file")
    assert [mode_of(shared / name) for name in ("a", "a/b", "a/b/file")] == [0o700, 0o700, 0o600]
    assert mode_of(shared) == 0o755


def test_what_exists_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    file.chmod(0o640)
    tmp_path.chmod(0o750)
    make_private_folder(tmp_path)
    assert not create_private(file)
    assert (mode_of(tmp_path), mode_of(file), file.read_text()) == (0o750, 0o640, "text")
    narrow(file)
    assert mode_of(file) == 0o600
    narrow(tmp_path / "missing")
    with pytest.raises(FileExistsError):
        make_private_folder(file)
    with pytest.raises(NotADirectoryError):
        make_private_folder(file / "below")


@pytest.mark.parametrize(
    ("mode", "is_exposed"),
    [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o444, True), (0o620, True)],
)
def test_an_own_file_is_exposed_if_the_group_or_others_may_open_it(
    tmp_path: Path, mode: int, is_exposed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.touch()
    file.chmod(mode)
    warn_of_exposed_file("http.token_file", file)
    said = f"http.token_file {file}: other users may read it (mode {mode:04o}): chmod 600 {file}"
    assert caplog.messages == ([said] if is_exposed else [])


def test_a_file_of_another_owner_is_exposed_only_to_others(tmp_path: Path) -> None:
    """As secrets of containers and of /etc: they belong to root, the group may read them."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    found = {}
    for mode in (0o440, 0o640, 0o444):
        file = folder / f"{mode:o}"
        file.touch()
        file.chmod(mode)
    with another_user(folder):
        found = {file.name: exposure_of(file) for file in folder.iterdir()}
    assert found == {
        "440": None,
        "640": None,
        "444": "other users may read it (mode 0444): let only the user that runs this program"
        " read it",
    }


def test_a_missing_file_is_not_exposed(tmp_path: Path) -> None:
    assert exposure_of(tmp_path / "missing") is None
    assert exposure_of(Path("a\0b")) is None
