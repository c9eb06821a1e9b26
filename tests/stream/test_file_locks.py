"""Two pipelines never write the same pictures or the same changes of cameras."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from configs import CidcError, ConfigError, OutboxError, check_tree
from stream.config import StreamConfig
from stream.events.outbox import Outbox
from stream.file_locks import locked_files
from stream.pipeline import Pipeline
from stream.start_check import check_start
from tests.support.permissions import mode_of, umask
from tests.support.pipelines import config_for


def settings(folder: Path, name: str = "one", **sections: object) -> StreamConfig:
    """A pipeline with an outbox of its own; it shares its pictures and changes with the others."""
    tree = {
        "cameras": [{"id": "a", "url": "rtsp://h/a"}],
        "outbox": {"path": str(folder / name / "outbox.db")},
        "snapshots": {"enabled": True, "path": str(folder / "pictures")},
        "http": {"port": 0, "changes": str(folder / "changes.json")},
    }
    return check_tree(tree | sections, StreamConfig, name="test")


def start(config: StreamConfig) -> None:
    with locked_files(config):
        pass


@pytest.mark.parametrize(
    ("without", "setting", "used"),
    [
        ({}, "snapshots.path", "pictures"),
        ({"snapshots": {"enabled": False}}, "http.changes", "changes.json"),
    ],
)
def test_a_second_pipeline_on_the_same_files_is_refused_until_the_first_ends(
    tmp_path: Path, without: dict[str, object], setting: str, used: str
) -> None:
    second = settings(tmp_path, "two", **without)
    with locked_files(settings(tmp_path)):
        with pytest.raises(ConfigError) as raised:
            start(second)
        assert str(raised.value) == (
            f"{setting} {tmp_path / used}: another process is using it; give each pipeline its own"
            f" {setting}"
        )
    start(second)


def test_pipelines_with_files_of_their_own_run_together(tmp_path: Path) -> None:
    with locked_files(settings(tmp_path / "a")), locked_files(settings(tmp_path / "b")):
        pass
    nothing = {"snapshots": {"enabled": False}, "http": {"enabled": False}}
    with locked_files(settings(tmp_path / "a", **nothing)):
        start(settings(tmp_path / "a", **nothing))


def test_the_outbox_is_named_before_what_is_in_its_folder(tmp_path: Path) -> None:
    config = settings(tmp_path)
    outbox = Outbox(config.outbox)
    with locked_files(settings(tmp_path, "two")), pytest.raises(OutboxError, match="outbox"):
        start(config)
    outbox.close()


def test_a_check_beside_a_running_pipeline_only_notes_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert check_start(settings(tmp_path, name)) is None
    with locked_files(settings(tmp_path)):
        note = check_start(settings(tmp_path, "two"))
        pictures = tmp_path / "pictures"
        assert note == (
            f"snapshots.path {pictures}: another process is using it; a second run cannot start"
            " meanwhile"
        )
    assert check_start(settings(tmp_path, "two")) is None


def test_lock_files_and_their_folders_are_for_their_owner(tmp_path: Path) -> None:
    with umask(0):
        start(settings(tmp_path / "new"))
    names = {"pictures": 0o700, "pictures/.lock": 0o600, "changes.json.lock": 0o600}
    assert {name: mode_of(tmp_path / "new" / name) for name in names} == names


def test_where_there_are_no_locks_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match=r"snapshots\.path: cannot lock .*No locks available"):
        start(settings(tmp_path))


def test_a_pipeline_holds_its_locks_from_its_construction_to_its_end(
    tiny_weights: Path, tmp_path: Path
) -> None:
    shared = {"snapshots": {"enabled": True, "path": str(tmp_path / "pictures")}}
    first = config_for(tiny_weights, tmp_path / "one", {"a": "rtsp://127.0.0.1:9/a"}, **shared)
    second = config_for(tiny_weights, tmp_path / "two", {"a": "rtsp://127.0.0.1:9/a"}, **shared)
    pipeline = Pipeline(first)
    for config, says in ((second, r"snapshots\.path"), (first, "outbox")):
        with pytest.raises(CidcError, match=f"{says} .*another process is using it"):
            Pipeline(config)
    pipeline.close()
    Pipeline(second).close()
