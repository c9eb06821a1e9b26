"""The command `discover`, and discovery over HTTP: a device is found and added in one step."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from configs import exit_status
from stream.__main__ import _parser
from stream.serve.discovery import DiscoveryRunner
from tests import ROOT
from tests.stream.serve.rig import Rig
from tests.support.fake_onvif import FakeOnvif
from tests.support.waiting import until

STREAM = "rtsp://127.0.0.1:554/{token}?channel=1"
PASSWORD = "p@ss:w/rd"
URL = "rtsp://viewer:p%40ss%3Aw%2Frd@127.0.0.1:554/sub?channel=1"
# `python -m stream`, whatever the working folder.
COMMAND = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stream.__main__ import main;"
    " sys.exit(main(sys.argv[1:]))",
    "discover",
)


def main(arguments: list[str]) -> int:
    """Run the command line in this process, without its logs."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: int(options.run(options)))


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return str(path)


def test_the_command_prints_what_it_found_and_adds_to_a_running_pipeline(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("let-me-in")
    rig = Rig(tmp_path, token="let-me-in")
    try:
        with FakeOnvif(STREAM, login=("viewer", PASSWORD)) as device:
            where = ["--address", device.probe_address, "--timeout", "1"]
            login = ["--username", "viewer", "--password-file", password]
            pipeline = f"http://127.0.0.1:{rig.server.port}"
            add = ["--add", pipeline, "--id", "door"]
            assert main(["discover", *where, *login]) == 0
            printed = capsys.readouterr().out
            assert "Maker M 2" in printed
            assert "H264 640x360, 15 fps" in printed
            assert "for the analysis" in printed
            assert main(["discover", *where, *login, *add]) == 2
            assert "does not take the camera: send the header" in capsys.readouterr().err
            assert main(["discover", *where, *login, *add, "--token-file", str(token)]) == 0
            printed = capsys.readouterr().out
            assert "added door: rtsp://127.0.0.1:554/sub" in printed
            assert PASSWORD not in printed
            assert "p%40ss" not in printed
            assert main(["discover", *where, *login, *add, "--token-file", str(token)]) == 2
            assert "there is a camera 'door' already" in capsys.readouterr().err
        assert until(lambda: "door" in rig.running)
        status = rig.supervisor.status("door")
        assert status is not None
        assert status.camera.url == URL
    finally:
        rig.close()


def test_a_file_of_cameras_gets_a_reference_and_no_password(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "cameras.json"
    with FakeOnvif(STREAM, login=("viewer", PASSWORD)) as device:
        common = ["discover", "--address", device.probe_address, "--timeout", "1", "--json"]
        common += ["--username", "viewer", "--password-file", password, "--add", str(target)]
        assert main(common) == 2
        assert "a file of cameras holds no passwords; give --secret" in capsys.readouterr().err
        assert main([*common, "--secret", "door"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["devices"][0]["chosen"] == "sub"
        assert report["added"] == {"id": "camera-127.0.0.1", "url": "rtsp://127.0.0.1:554/sub"}
        assert main([*common, "--secret", "door"]) == 2
        assert "has a camera 'camera-127.0.0.1' already" in capsys.readouterr().err
        assert main([*common, "--secret", "door", "--id", "b", "--profile", "main"]) == 0
    first, second = json.loads(target.read_text())
    assert first["url"] == "rtsp://viewer:${secret:door}@127.0.0.1:554/sub?channel=1"
    assert second == {"id": "b", "url": first["url"].replace("/sub", "/main")}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--password-file", "x"], "--password-file needs --username"),
        (["--secret", "x", "--add", "-"], "--secret needs --username"),
        (["--id", "x"], "--id needs --add"),
        (["--address", "camera"], "'camera' is not an IP address"),
        (["--interface", "192.0.2.77"], "192.0.2.77: cannot send from this address"),
        (["--interface", "eth0"], "'eth0' is not an IPv4 address"),
        (["--username", "a", "--password-file", "/no/such/file"], "/no/such/file"),
    ],
)
def test_options_that_cannot_be_used_are_said_in_one_line(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discover", "--timeout", "0.1", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


@pytest.mark.slow
def test_one_call_over_http_finds_a_device_and_adds_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, discovery=DiscoveryRunner(COMMAND))
    try:
        empty = rig.ask("GET", "/discover")
        assert empty[1]["devices"] == []
        assert empty[1]["finished_at"] is None
        with FakeOnvif(STREAM, login=("viewer", PASSWORD)) as device:
            wanted = {"addresses": [device.probe_address], "username": "viewer"}
            status, report = rig.ask("POST", "/discover", wanted | {"password": "wrong"})
            assert status == 200, report
            assert "refuses user name and password" in report["devices"][0]["problem"]
            wanted |= {"password": PASSWORD}
            status, report = rig.ask("POST", "/discover", wanted | {"add": {"profile": "none"}})
            assert (status, "has no profile 'none'" in report["error"]) == (422, True)
            status, report = rig.ask("POST", "/discover", wanted | {"add": {"id": "door"}})
        assert (status, report["added"], report["devices"][0]["chosen"]) == (200, "door", "sub")
        assert PASSWORD not in json.dumps(report)
        assert rig.ask("GET", "/discover")[1]["devices"] == report["devices"]
        assert until(lambda: "door" in rig.running)
        added = rig.supervisor.status("door")
        assert added is not None
        assert added.camera.url == URL
    finally:
        rig.close()


def test_one_discovery_at_a_time_and_its_time_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.serve.discovery._MAX_SECONDS", 0.5)
    slow = DiscoveryRunner(("sh", "-c", "exec sleep 20", "-"))
    rig = Rig(tmp_path, discovery=slow)
    try:
        with slow._running:
            status, answer = rig.ask("POST", "/discover", {})
            assert (status, answer["error"]) == (409, "a discovery runs already; wait for its end")
        status, answer = rig.ask("POST", "/discover", {})
        assert status == 422
        assert "took longer than 0.5 s" in answer["error"]
        for wrong in (
            {"x": 1},
            {"addresses": ["a\0b"]},
            {"timeout_seconds": 11},
            {"password": "\n"},
        ):
            assert rig.ask("POST", "/discover", wrong)[0] == 422
        status, answer = rig.ask("POST", "/discover", {"username": "a", "add": {"secret": "b"}})
        assert (status, "secrets need cameras that live in a topic" in answer["error"]) == (
            422,
            True,
        )
    finally:
        rig.close()


def test_values_cannot_become_options() -> None:
    from stream.serve.discovery import _options
    from stream.serve.discovery_schemas import DiscoveryRequest

    request = DiscoveryRequest(
        addresses=("--add=x",), username="--json", add={"id": "--token-file=/etc/passwd"}
    )
    assert "--address=--add=x" in _options(request)
    assert "--id=--token-file=/etc/passwd" in _options(request)
