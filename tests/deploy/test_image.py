"""The container image: lint, locked packages, least rights; its install steps in a scratch root."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from scripts.image_root import DOCKERFILE, Step, build, final_settings, stages
from scripts.lock import IMAGES, image_lock, needed
from tests import ROOT
from tests.support.coded_video import write_video
from tests.support.command_line import exposition, overrides, write_config
from tests.support.waiting import until

TEXT = DOCKERFILE.read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
EXTRA = {
    canonicalize_name(re.split("[>=]", each)[0])
    for each in PROJECT["optional-dependencies"]["train"]
}


def locked(target: str) -> dict[str, str]:
    """Return the versions of the packages that an image installs, by name."""
    text = (ROOT / f"deploy/requirements-{target}.lock").read_text(encoding="utf-8")
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE)
    }


def environment(target: str) -> dict[str, str]:
    """Return the environment variables that the image sets."""
    every = stages(TEXT)
    steps = [*every["runtime"], *every[target]]
    pairs = " ".join(step.value for step in steps if step.name == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", pairs))


def hadolint(text: str) -> subprocess.CompletedProcess[str]:
    """Lint a Dockerfile; skip if the program is missing."""
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    if not program.is_file():
        pytest.skip("hadolint is missing; make setup installs it where its wheel fits")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing() -> None:
    done = hadolint(TEXT)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something() -> None:
    done = hadolint(TEXT.replace("python3=3.11.*", "python3") + "RUN cd /opt\n")
    assert {"DL3008", "DL3003"} <= set(re.findall(r"DL\d+", done.stdout))
    assert done.returncode == 1


@pytest.mark.parametrize("target", IMAGES)
def test_an_image_installs_what_the_project_needs_and_no_more(target: str) -> None:
    names = needed(IMAGES[target])
    assert set(locked(target)) == names - {"torch"}, "run: python -m scripts.lock"
    whole = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    text = (ROOT / f"deploy/requirements-{target}.lock").read_text(encoding="utf-8")
    assert text == image_lock(whole, target=target, names=names), "run: python -m scripts.lock"


@pytest.mark.parametrize("target", IMAGES)
def test_an_image_has_neither_training_s_packages_nor_the_tests(target: str) -> None:
    assert {"matplotlib", "tensorboard", "pillow", "protobuf"} <= EXTRA
    unwanted = {*EXTRA, "pytest", "mkdocs", "ruff", "onnx"} - {"protobuf"}  # otel has it, too
    assert not unwanted & set(locked(target))
    assert ("pynvvideocodec" in locked(target)) == (target == "gpu")


@pytest.mark.parametrize("target", IMAGES)
def test_packages_are_installed_by_hash_and_pytorch_by_the_pinned_version(target: str) -> None:
    steps = stages(TEXT)[f"builder-{target}"]
    commands = [
        command
        for step in steps
        if step.name == "RUN"
        for command in step.value.split("&&")
        if " install " in command
    ]
    [by_hash] = [each for each in commands if f"--requirement requirements-{target}.lock" in each]
    assert "--no-deps --require-hashes --only-binary :all:" in by_hash
    [torch] = [each for each in commands if "torch==${TORCH_VERSION}" in each]
    assert ("--index-url" in torch) == (target == "cpu")
    [version] = re.findall(r"^torch==(\S+)", CONSTRAINTS, re.MULTILINE)
    assert Step("ARG", f"TORCH_VERSION={version}") in steps
    assert Step("ARG", f"VERSION={PROJECT['version']}") in stages(TEXT)["runtime"]


@pytest.mark.parametrize("target", IMAGES)
def test_the_image_runs_without_rights_and_takes_signals_itself(target: str) -> None:
    settings = final_settings(TEXT, target)
    assert settings["USER"] == "10001:10001"
    assert json.loads(settings["ENTRYPOINT"]) == ["cidc-stream"]
    assert json.loads(settings["CMD"]) == ["run", "--config", "/etc/cidc/cameras.yaml"]
    assert settings["STOPSIGNAL"] == "SIGTERM"
    assert settings["EXPOSE"] == "9108"
    assert json.loads(settings["VOLUME"]) == ["/var/lib/cidc", "/var/cache/cidc"]


def test_everything_that_is_cached_goes_to_the_one_folder_for_it() -> None:
    variables = environment("cpu")
    folders = {name for name, value in variables.items() if value.startswith("/var/cache/cidc")}
    assert {"HOME", "XDG_CACHE_HOME", "CUPY_CACHE_DIR", "CUDA_CACHE_PATH"} <= folders


def test_the_gpu_image_asks_for_what_decoding_on_a_gpu_needs() -> None:
    assert environment("gpu")["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"
    assert "NVIDIA_DRIVER_CAPABILITIES" not in environment("cpu")


def test_bases_are_pinned() -> None:
    [base] = re.findall(r"^ARG BASE=(\S+)", TEXT, re.MULTILINE)
    assert re.fullmatch(r"\S+:\d+\.\d+-slim", base)
    own = set(stages(TEXT))
    for first, *_ in list(stages(TEXT).values())[1:]:
        assert first.name == "FROM"
        assert first.value.split()[0] in {*own, "${BASE}"}


def test_the_context_holds_all_that_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        name
        for stage in stages(TEXT).values()
        for step in stage
        if step.name == "COPY" and "--from" not in step.value
        for name in step.value.split()[:-1]
    }
    for name in copied:
        assert (ROOT / name).exists(), name
    assert {
        re.sub(r"requirements-\w+\.lock", "requirements-*.lock", name) for name in copied
    } == sent


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of the CPU image, by the Dockerfile's steps; locked packages are linked."""
    pytest.importorskip("pip")
    out = tmp_path_factory.mktemp("image")
    yield build(out, target="cpu", link=True)
    shutil.rmtree(out, ignore_errors=True)


@contextlib.contextmanager
def container(programs: Path, folder: Path, *, port: int) -> Iterator[subprocess.Popen[str]]:
    """The image's own command with the image's environment; its paths lie below a folder."""
    moved = {"/etc/cidc": folder, "/var/cache/cidc": folder / "cache", "/opt/cidc/bin": programs}
    words = json.loads(final_settings(TEXT, "cpu")["ENTRYPOINT"])
    words += json.loads(final_settings(TEXT, "cpu")["CMD"])
    variables = environment("cpu")
    for old, new in moved.items():
        words = [word.replace(old, str(new)) for word in words]
        variables = {name: value.replace(old, str(new)) for name, value in variables.items()}
    process = subprocess.Popen(
        [programs / words[0], *words[1:], *overrides(f"http.port={port}")],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def health(programs: Path, port: int) -> int:
    """Run the image's health check; return its exit status."""
    check = final_settings(TEXT, "cpu")["HEALTHCHECK"].partition(" CMD ")[2]
    words = json.loads(check.replace("9108", str(port)))
    words[0] = words[0].replace("/opt/cidc/bin", str(programs))
    return subprocess.run(words, capture_output=True, timeout=30, check=False).returncode


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_the_image_starts_is_healthy_and_ends_on_its_stop_signal(
    programs: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a.mp4", "libx264", range(60))
    cameras = [{"id": "a", "url": str(video), "loop": True}]
    config = write_config(tmp_path, Path("scenes-r2d18-cidc"), {}, cameras=cameras)
    config.rename(tmp_path / "cameras.yaml")
    (tmp_path / "cache").mkdir()
    port = free_port()
    assert health(programs, port) == 1
    with container(programs, tmp_path, port=port) as process:
        assert until(lambda: process.poll() is not None or "cidc_" in exposition(port), 60)
        assert process.poll() is None, process.communicate()[0]
        assert health(programs, port) == 0
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert (tmp_path / "outbox.db").is_file()
    assert "rror" not in output


@pytest.mark.slow
def test_the_image_generates_recordings_and_names_what_it_cannot_do(
    programs: Path, tmp_path: Path
) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / "cidc-train", *words],
            cwd=tmp_path,
            env=environment("cpu") | {"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )

    scenes = "scenes --out . --seed 1 --clips 0 --recordings 1 --minutes 0.1 --jobs 1"
    done = run(*scenes.split())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "recordings/camera-1.mp4").is_file()
    done = run("score", "--truth", "x", "--events", "x", "--plot", "x.png")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.endswith("pip install 'cidc-stream[train]' adds it"), line
