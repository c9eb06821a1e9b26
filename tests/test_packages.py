"""The console scripts, foreign packages in the working folder, and both distributions."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import cidc_programs
from client.client_backend import FILES, copy_files
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.kafka import connect_producer
from stream.events.outbox import Outbox
from tests import ROOT
from tests.support.broker import running_broker
from tests.support.factory import make_event

WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT = tomllib.loads((ROOT / "client/pyproject.toml").read_text())
# What may be imported where only the small distribution and its dependencies are installed.
CLIENT_PACKAGES = ("annotated_types", "kafka", "pydantic", "pydantic_core", "typing_extensions")
BLOCKER = f"""
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = {(*CLIENT_PACKAGES, "typing_inspection", "cidc_programs", "configs", "stream")!r}
        if top not in known and top.lstrip("_") == top and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(
    *command: str | Path, cwd: Path, pythonpath: str = str(ROOT)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": pythonpath},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    with_events = Outbox(OutboxConfig(path=path))
    with_events.append([make_event(1), make_event(2)])
    with_events.close()
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working folder with a user's own files, which must never be imported."""
    folder = tmp_path / "mine"
    (folder / "configs").mkdir(parents=True)
    for name in ("configs/__init__", "model", "stream", "train", "numpy", "yaml", "pickle"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('imported {name} of the user')")
    return folder


@pytest.mark.parametrize("package", ["stream", "train", "model"])
@pytest.mark.parametrize("foreign", ["configs/__init__.py", "configs.py", "model.py"])
def test_a_foreign_package_gives_one_message_and_status_2(
    package: str, foreign: str, tmp_path: Path
) -> None:
    if foreign == f"{package}.py":
        pytest.skip("Python runs the user's file instead")
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    done = run(sys.executable, "-m", package, "--help", cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {path} has the name of the package")
    assert f"run `cidc-{package}`" in line


def test_a_folder_of_settings_is_no_foreign_package(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").touch()
    assert run(sys.executable, "-m", "stream", "--help", cwd=tmp_path).returncode == 0


def test_a_program_that_reads_events_may_have_its_own_model(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("x = 1\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import model, stream.reader\n"
        "from stream import ActionEvent\n"
        "from stream.events.config import KafkaConfig\n"
        "print(model.x)\n"
        "from stream import EventDetector\n"
    )
    done = run(sys.executable, program, cwd=tmp_path)
    assert done.stdout == "1\n"
    assert "ImportError" in done.stderr
    assert f"{tmp_path / 'model.py'} has the name of the package 'model'" in done.stderr


def script(folder: Path, name: str, function: str) -> Path:
    """Write a console script as pip does."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"import sys\nfrom cidc_programs import {function}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    return path


@pytest.mark.parametrize("pythonpath", [str(ROOT), f":{ROOT}", f".:{ROOT}"])
def test_a_script_does_not_import_from_the_working_folder(
    hostile: Path, outbox: Path, tmp_path: Path, pythonpath: str
) -> None:
    """An empty entry of PYTHONPATH, which a stray colon makes, is the working folder, too."""
    program = script(tmp_path, "cidc-stream", "stream")
    done = run(
        sys.executable,
        program,
        "events",
        "--outbox",
        outbox,
        cwd=hostile,
        pythonpath=pythonpath,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
    done = run(sys.executable, program, "--help", cwd=hostile, pythonpath=pythonpath)
    assert done.stdout.startswith("usage: cidc-stream [-h]")


@pytest.mark.slow
def test_worker_processes_of_a_script_do_not_either(hostile: Path, tmp_path: Path) -> None:
    arguments = "scenes --out scenes --clips 1 --background-share 0 --recordings 0 --jobs 2"
    program = script(tmp_path, "cidc-train", "train")
    done = run(
        sys.executable, program, *arguments.split(), cwd=hostile, pythonpath=f"{ROOT}:{hostile}"
    )
    assert done.returncode == 0, done.stderr
    assert "wrote clips" in done.stdout


def test_programs_named_on_the_pages_understand_their_options() -> None:
    found = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for name, rest in re.findall(r"^\$ cidc-(stream|train|model) (.*)$", text, re.MULTILINE):
            parser = importlib.import_module(f"{name}.__main__")._parser()
            if "--help" not in rest:
                parser.parse_args(shlex.split(rest, comments=True))
            found += 1
    assert found >= 3


@pytest.mark.parametrize("project", [WHOLE, CLIENT], ids=["whole", "client"])
def test_scripts_name_functions_that_exist(project: dict[str, dict[str, dict[str, str]]]) -> None:
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_two_versions_in_one_environment_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"cidc-stream": "0.2.0", "cidc-stream-client": "0.1.0"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    with pytest.raises(SystemExit):
        cidc_programs._check_versions()
    assert "cidc-stream 0.2.0 and cidc-stream-client 0.1.0" in capsys.readouterr().err
    versions["cidc-stream-client"] = "0.2.0"
    cidc_programs._check_versions()


def test_both_distributions_have_one_version_and_the_same_requirements() -> None:
    assert CLIENT["project"]["version"] == WHOLE["project"]["version"]
    assert CLIENT["project"]["requires-python"] == WHOLE["project"]["requires-python"]
    extra = CLIENT["project"]["optional-dependencies"]["yaml"]
    assert set(CLIENT["project"]["dependencies"] + extra) <= set(WHOLE["project"]["dependencies"])


def test_the_client_needs_nothing_but_kafka_python_and_pydantic(
    outbox: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "client"
    copy_files(folder)
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in FILES
        if name.endswith(".py") and name not in ("configs/loader.py", "configs/yaml_loader.py")
    ]
    modules.remove("configs.overrides")  # these three are for `--config`, with PyYAML
    program = f"""{BLOCKER}
import importlib
for name in {modules!r}:
    importlib.import_module(name)
from stream.__main__ import main
status = main(["events", "--outbox", {str(outbox)!r}])
assert not {{"torch", "numpy", "cv2", "rich", "yaml", "model", "train"}} & sys.modules.keys()
status += main(["run", "--config", "x.yaml"])
status += main(["events", "--config", "x.yaml"])
sys.exit(status)
"""
    done = run(sys.executable, "-c", program, cwd=tmp_path, pythonpath=str(folder))
    lines = done.stderr.splitlines()
    assert done.returncode == 4, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert "cidc-stream-client only reads events" in lines[0]
    assert "--config needs PyYAML" in lines[1]


def pip(python: Path | str, *arguments: str | Path) -> None:
    """Run pip; skip the test if the network is missing."""
    done = run(python, "-m", "pip", *arguments, cwd=ROOT, pythonpath="")
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("packages cannot be downloaded here")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.broker
def test_the_client_in_an_environment_of_its_own(outbox: Path, tmp_path: Path) -> None:
    pytest.importorskip("pip")
    pip(sys.executable, "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT / "client")
    [wheel] = tmp_path.glob("cidc_stream_client-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    pip(python, "install", "-q", wheel)
    packages = run(python, "-m", "pip", "list", cwd=tmp_path, pythonpath="").stdout
    assert "kafka-python" in packages
    assert "torch" not in packages
    program = tmp_path / "venv/bin/cidc-stream-client"
    done = run(program, "events", "--outbox", outbox, cwd=tmp_path, pythonpath="")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4), done.stderr
    with running_broker() as address:
        producer = connect_producer(KafkaConfig(bootstrap=(address,)))
        producer.send("action-events", make_event(7).to_json().encode()).get(30)
        producer.close()
        done = run(
            program,
            "events",
            "--bootstrap",
            address,
            "--format",
            "jsonl",
            cwd=tmp_path,
            pythonpath="",
        )
    assert '"sequence":7' in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_has_every_file_that_is_not_code(tmp_path: Path) -> None:
    pytest.importorskip("pip")
    tree = tmp_path / "tree"
    for package in ("configs", "model", "stream", "train"):
        shutil.copytree(ROOT / package, tree / package)
    for name in ("pyproject.toml", "README.md", "LICENSE", "cidc_programs.py"):
        shutil.copy(ROOT / name, tree)
    options = ("-q", "--no-deps", "--no-build-isolation")
    pip(sys.executable, "wheel", *options, "-w", tmp_path, tree)
    [wheel] = tmp_path.glob("cidc_stream-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("configs", "model", "stream", "train")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert "cidc_programs.py" in names
