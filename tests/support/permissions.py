"""Permissions of files in tests: umasks, modes, other users."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """Inside the block, let new files have all permissions but these."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """Inside the block, be a user without rights who can reach a folder; skip where only root can.

    The rights of the folders above it are restored at the end.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    modes = {each: mode_of(each) for each in folder.parents if not mode_of(each) & 0o001}
    for each, mode in modes.items():
        each.chmod(mode | 0o001)
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
        for each, mode in modes.items():
            each.chmod(mode)


def mode_of(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)
