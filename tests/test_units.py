"""The units of systemd: what systemd says of them, and that they fit the program and the pages."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import stream.__main__
from configs import load_config
from stream.config import StreamConfig
from stream.events.config import KafkaConfig
from stream.health import HANGS_SECONDS
from tests import ROOT

UNIT = ROOT / "deploy/cidc-stream.service"
TEMPLATE = ROOT / "deploy/cidc-stream@.service"
GPU = ROOT / "deploy/systemd/gpu.conf"
UNITS = ("cidc-stream.service", "cidc-stream@0.service")
PAGE = (ROOT / "docs/how-to/least-rights.md").read_text(encoding="utf-8")
both = pytest.mark.parametrize("path", [UNIT, TEMPLATE], ids=lambda path: path.name)


def settings(path: Path) -> list[tuple[str, str]]:
    """Every setting of a unit, in order; continued lines are joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    return [(name, " ".join(value.split())) for name, value in found]


def seconds(path: Path, name: str) -> float:
    """The value of a setting that is a time."""
    text = dict(settings(path))[name]
    number, unit = re.fullmatch(r"(\d+)(s|min)?", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "min" else 1)


def program(path: Path, instance: str = "") -> list[str]:
    """The command line of a unit, with its specifiers replaced."""
    line = dict(settings(path))["ExecStart"]
    for specifier, value in {"%d": "/credentials", "%S": "/var/lib", "%i": instance}.items():
        line = line.replace(specifier, value)
    return shlex.split(line)


def test_the_page_explains_lines_of_the_unit_that_exist() -> None:
    table = PAGE[PAGE.index("| lines of the unit |") : PAGE.index("Some lines depend")]
    named = {name for row in table.splitlines() for name in re.findall(r"`([A-Z]\w+)", row)}
    assert {"DynamicUser", "SystemCallFilter", "WatchdogSec"} <= named
    assert named <= set(re.findall(r"^#?(\w+)=", UNIT.read_text(), re.MULTILINE))


def test_the_template_has_the_rights_of_the_unit_and_no_more() -> None:
    own = {"Description", "Environment", "ExecStart", "LoadCredential"}
    folders = {"StateDirectory", "WorkingDirectory"}
    unit = [each for each in settings(UNIT) if each[0] not in own | folders]
    template = [each for each in settings(TEMPLATE) if each[0] not in own | folders]
    assert template == unit
    for name in folders:
        assert dict(settings(TEMPLATE))[name] == dict(settings(UNIT))[name] + "-%i"


@both
def test_times_of_the_units_fit_those_of_the_program(path: Path) -> None:
    assert dict(settings(path))["Type"] == "notify"
    assert seconds(path, "TimeoutStopSec") > KafkaConfig().drain_seconds
    # A check of health that fails for a moment must not end the run.
    assert seconds(path, "WatchdogSec") >= HANGS_SECONDS


@pytest.mark.parametrize("instance", ["0", "1", "9"])
def test_each_worker_has_files_and_a_port_of_its_own(instance: str, tmp_path: Path) -> None:
    _, *arguments = program(TEMPLATE, instance)
    options = stream.__main__._parser().parse_args(arguments)
    assert str(options.config) == "/credentials/stream.yaml"
    file = tmp_path / "stream.yaml"
    file.write_text("cameras_from: {topic: t}\nkafka: {bootstrap: [localhost:9092]}\n")
    config = load_config(file, StreamConfig, options.set)
    assert str(config.outbox.path) == f"/var/lib/cidc-stream-{instance}/outbox.db"
    assert str(config.snapshots.path) == f"/var/lib/cidc-stream-{instance}/snapshots"
    assert config.http.port == 19100 + int(instance)
    assert str(config.http.token_file) == "/credentials/http-token"


def test_the_program_of_the_unit_is_understood() -> None:
    name, *arguments = program(UNIT)
    assert name.endswith("/bin/cidc-stream")
    options = stream.__main__._parser().parse_args(arguments)
    assert str(options.config) == "/credentials/cameras.yaml"


def test_the_drop_in_for_gpus_changes_what_it_must_and_nothing_else() -> None:
    changed = dict(settings(GPU))
    unit = dict(settings(UNIT))
    assert (unit["PrivateDevices"], changed["PrivateDevices"]) == ("yes", "no")
    assert changed["DevicePolicy"] == "closed"
    allowed = [value for name, value in settings(GPU) if name == "DeviceAllow"]
    assert all(re.fullmatch(r"char-nvidia[\w-]* rw?", each) for each in allowed)
    own = {"DeviceAllow", "DevicePolicy", "Wants", "After"}
    assert changed.keys() - own <= unit.keys()
    assert changed.keys() - own == {"PrivateDevices", "PrivateUsers", "MemoryMax"}


def installed(folder: Path, *, gpu: bool) -> Path:
    """Install the units in a folder, with a program that exists."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing (Debian: apt install systemd)")
    for path in (UNIT, TEMPLATE):
        text = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(text.replace(program(path)[0], "/bin/true"))
        if gpu:
            (folder / f"{path.name}.d").mkdir()
            shutil.copy(GPU, folder / f"{path.name}.d")
    return folder


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["systemd-analyze", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot run here: {done.stderr.strip()}")
    return done


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_the_units(tmp_path: Path, unit: str, gpu: bool) -> None:
    done = analyze(installed(tmp_path, gpu=gpu), "verify", "--man=no", f"./{unit}")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_refuses_a_unit_with_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    unit = installed(tmp_path, gpu=False) / UNIT.name
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=stricter"))
    assert "stricter" in analyze(tmp_path, "verify", "--man=no", f"./{UNIT.name}").stderr


@pytest.mark.parametrize(("gpu", "exposure"), [(False, "1.3"), (True, "1.6")], ids=["cpu", "gpu"])
@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_of_the_units_is_at_most_that_of_the_page(
    tmp_path: Path, unit: str, gpu: bool, exposure: str
) -> None:
    assert f"exposure {exposure}" in PAGE
    limit = f"--threshold={round(float(exposure) * 10)}"
    folder = installed(tmp_path, gpu=gpu)
    done = analyze(folder, "security", "--offline=true", "--no-pager", limit, f"./{unit}")
    assert done.returncode == 0, done.stdout
