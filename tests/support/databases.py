"""Databases that are full, damaged or of another version, for tests of the outbox."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests.support.factory import make_event

_PAGE_BYTES = 4096


def watched_connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Collect every connection that is opened from now on: some settings are a connection's own."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    return opened


def fill_disk(connection: sqlite3.Connection) -> None:
    """Let the database grow no further, as on a full disk, until `free_disk`."""
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")


def free_disk(connection: sqlite3.Connection) -> None:
    """Let the database grow again."""
    connection.execute("pragma max_page_count = 1000000")


def execute(path: Path, statement: str) -> None:
    """Change a database as another program does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


def damage(path: Path, pages: slice) -> None:
    """Overwrite pages of a database that nobody has open."""
    data = bytearray(path.read_bytes())
    for page in range(len(data) // _PAGE_BYTES)[pages]:
        data[page * _PAGE_BYTES : (page + 1) * _PAGE_BYTES] = b"\xa5" * _PAGE_BYTES
    path.write_bytes(bytes(data))


def damage_index(path: Path) -> None:
    """Damage a database that may be open: storing an `updated` fails, all rows can be read."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        version = database.execute("pragma schema_version").fetchone()[0]
        database.execute("pragma writable_schema = on")
        database.execute(
            "update sqlite_master set rootpage ="
            " (select rootpage from sqlite_master where name = 'sequences')"
            " where type = 'index' and name = 'updated_0'"
        )
        database.execute(f"pragma schema_version = {version + 1}")


def fill_outbox(path: Path, count: int) -> None:
    """Store so many events and close the outbox."""
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number, kind="updated") for number in range(1, count + 1)])
    outbox.close()


def set_version(path: Path, version: int) -> None:
    """Let the file say that it is of this version."""
    execute(path, f"pragma user_version = {version}")


def version_of(path: Path) -> int:
    """Return the version that the file says it is of."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("pragma user_version").fetchone()[0])
