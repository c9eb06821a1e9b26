"""`check` refuses what `run` would refuse at its start, and leaves no trace."""

import fcntl
import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import CidcError, ConfigError, OutboxError, check_tree
from stream.cameras.config import CameraConfig
from stream.config import StreamConfig, check_settings
from stream.events.outbox import Outbox
from stream.start_check import check_start
from tests.support.command_line import assert_one_error, overrides, stream
from tests.support.disks import small_file_system


def settings(folder: Path, **sections: object) -> StreamConfig:
    tree = {
        "cameras": [{"id": "a", "url": "rtsp://h/a"}],
        "outbox": {"path": str(folder / "outbox.db")},
        "http": {"port": 0},
    }
    return check_tree(tree | sections, StreamConfig, name="test")


@pytest.fixture
def readonly(tmp_path: Path) -> Iterator[Path]:
    """A folder with an outbox, on a file system that cannot be written."""
    with small_file_system(tmp_path / "readonly", megabytes=4) as folder:
        Outbox(settings(folder).outbox).close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def test_what_can_be_used_passes_and_nothing_is_left_behind(tmp_path: Path) -> None:
    assert check_start(settings(tmp_path / "not/yet/there", snapshots={"enabled": True})) is None
    assert list(tmp_path.iterdir()) == []
    config = settings(tmp_path)
    Outbox(config.outbox).close()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert check_start(config) is None
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_a_stored_camera_whose_file_is_not_allowed_is_named(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    cameras = [CameraConfig(id="late", url=str(tmp_path / "video.mp4"))]
    with pytest.raises(ConfigError, match=r"camera late: .*add its folder to http\.files"):
        check_settings(settings(tmp_path), cameras)
    allowed = settings(tmp_path, http={"port": 0, "files": [str(tmp_path)]})
    check_settings(allowed, cameras)


def test_page_locked_memory_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    infer = {"device": "cpu", "staging": "pycuda"}
    with pytest.raises(ConfigError, match=r"infer\.staging: pycuda was asked for, but the network"):
        check_start(settings(tmp_path, infer=infer))


def test_a_decoder_matters_only_for_cameras_that_are_left(tmp_path: Path) -> None:
    camera = {"id": "a", "url": "rtsp://h/a", "source": {"decoder": "nvdec"}}
    config = settings(tmp_path, cameras=[camera], infer={"device": "cpu"})
    with pytest.raises(ConfigError, match=r"camera a: source\.decoder: nvdec cannot be used"):
        check_start(config)
    check_start(config, [])  # it was removed over HTTP


def test_an_outbox_on_a_read_only_disk_is_refused(readonly: Path) -> None:
    with pytest.raises(OutboxError, match="Read-only file system"):
        check_start(settings(readonly))
    with pytest.raises(OutboxError, match=r"cannot write to the folder .*Read-only"):
        check_start(settings(readonly / "new"))
    elsewhere = {"enabled": True, "path": str(readonly / "pictures")}
    with pytest.raises(ConfigError, match=r"snapshots\.path: cannot write"):
        check_start(settings(readonly.parent, snapshots=elsewhere))
    changes = {"port": 0, "changes": str(readonly / "changes.json")}
    with pytest.raises(ConfigError, match=r"http\.changes: cannot write"):
        check_start(settings(readonly.parent, http=changes))


def test_an_outbox_path_that_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(OutboxError, match="Is a directory"):
        check_start(settings(tmp_path))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxError, match="cannot write to the folder"):
        check_start(settings(tmp_path / "file"))
    with pytest.raises(OutboxError, match=r"outbox /proc/none/outbox\.db"):
        check_start(settings(Path("/proc/none")))


def test_files_of_a_newer_release_or_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(OutboxError, match="version 99"):
        check_start(settings(tmp_path))
    path.write_text("a letter to a friend")
    with pytest.raises(OutboxError, match="is not a readable outbox"):
        check_start(settings(tmp_path))
    assert path.read_text() == "a letter to a friend"


def test_beside_a_running_pipeline_its_files_and_port_are_no_mistake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = settings(tmp_path, http={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            check_start(config)
        with (tmp_path / "outbox.db.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            note = check_start(config)
    assert note is not None
    assert "another process is using it" in note


@pytest.mark.parametrize("host", ["192.0.2.77", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machines_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on {host}"):
        check_start(settings(tmp_path, http={"port": 0, "host": host}))


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
def test_a_certificate_file_without_certificates_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file.pem"
    file.write_text("not a certificate")
    kafka = {"bootstrap": "b:9093", "security_protocol": "SSL", name: str(file)}
    with pytest.raises(CidcError, match=f"kafka.{name} {file}"):
        check_settings(settings(tmp_path, kafka=kafka))


def test_a_file_of_authorities_without_certificates_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("not a certificate")
    source = {"tls_verify": True, "tls_ca_file": str(file)}
    with pytest.raises(ConfigError, match=rf"source\.tls_ca_file {file} is not a PEM"):
        check_settings(settings(tmp_path, source=source))


@pytest.mark.slow
def test_check_and_run_say_the_same(config: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    for setting, says in (
        (f"outbox.path={tmp_path / 'folder.db'}", "folder.db"),
        (f"kafka.bootstrap={json.dumps(['kafka://b1:9092'])}", "write b1:9092, without a scheme"),
    ):
        for command in ("check", "run"):
            assert_one_error(stream(command, "--config", config, *overrides(setting)), says)
