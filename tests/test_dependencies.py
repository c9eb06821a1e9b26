"""Lowest versions, pins, hashes, and set-up by the lock."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging import tags
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from scripts.lock import MINORS, fits, lock, pins
from tests import ROOT

WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT = tomllib.loads((ROOT / "client/pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
LOCK = (ROOT / "requirements.lock").read_text()


def requirements(tree: dict[str, dict[str, object]]) -> list[Requirement]:
    """Every requirement of a distribution: build, run and extras."""
    project = tree["project"]
    lists = [tree["build-system"]["requires"], project["dependencies"]]
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    return [Requirement(text) for each in [*lists, *extras.values()] for text in each]


EVERY = [*requirements(WHOLE), *requirements(CLIENT)]


def floors() -> dict[str, Version]:
    """The highest of the lowest versions that the lists give for a package."""
    found: dict[str, Version] = {}
    for requirement in EVERY:
        for specifier in requirement.specifier:
            name = canonicalize_name(requirement.name)
            found[name] = max(found.get(name, Version("0")), Version(specifier.version))
    return found


def pinned() -> dict[str, Version]:
    lines = (line.split("#")[0].strip() for line in CONSTRAINTS.splitlines())
    found = {}
    for requirement in (Requirement(line) for line in lines if line):
        [specifier] = requirement.specifier
        assert specifier.operator == "==", requirement
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


@pytest.mark.parametrize("requirement", EVERY, ids=str)
def test_every_requirement_has_a_lowest_version(requirement: Requirement) -> None:
    assert [each.operator for each in requirement.specifier] in ([">="], ["=="])


def test_every_list_names_the_same_lowest_version_of_a_package() -> None:
    for requirement in EVERY:
        assert (
            Version(next(iter(requirement.specifier)).version)
            == floors()[canonicalize_name(requirement.name)]
        ), f"{requirement} is lower than another list's"


def test_pins_satisfy_the_lowest_versions() -> None:
    pins_ = pinned()
    for requirement in EVERY:
        name = canonicalize_name(requirement.name)
        if name in pins_:
            assert requirement.specifier.contains(pins_[name]), f"{requirement}: {pins_[name]}"


def dependencies(name: str, extra: str = "") -> Iterator[str]:
    """What an installed package needs on this machine."""
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield canonicalize_name(requirement.name)


def test_pins_cover_everything_that_set_up_installs() -> None:
    """The CUDA packages of PyTorch come with its build and are not pinned."""
    extras = WHOLE["project"]["optional-dependencies"]
    wanted = WHOLE["project"]["dependencies"] + extras["dev"] + extras["train"]
    waiting = {canonicalize_name(Requirement(text).name) for text in wanted}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        needed = set(dependencies(name))
        waiting |= (needed & set(pinned()) if name == "torch" else needed) - seen
    assert seen <= set(pinned())


def entries() -> dict[str, list[str]]:
    """Lines of hashes of every locked package, by its requirement."""
    text = "\n".join(line for line in LOCK.splitlines() if not line.startswith("#"))
    found = {}
    for block in text.replace(" \\\n    ", " ").splitlines():
        requirement, *hashes = block.split(" --hash=")
        found[requirement] = hashes
    return found


def test_the_lock_holds_every_pin_but_pytorch_with_hashes() -> None:
    assert list(entries()) == [str(pin) for pin in pins(CONSTRAINTS)]
    assert {canonicalize_name(Requirement(each).name) for each in entries()} == set(pinned()) - {
        "torch"
    }, "run: python -m scripts.lock"
    for name, hashes in entries().items():
        assert hashes, name
        for each in hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", each), name


def test_the_lock_names_no_index_and_no_address() -> None:
    assert not re.search(r"://|^-|--(index|extra|find|trusted)|@", LOCK, re.MULTILINE)


WHEELS = [
    "six-1.17.0-py2.py3-none-any.whl",
    "x-1-py311-none-any.whl",
    "x-1-py313-none-any.whl",
    "x-1-py2-none-any.whl",
    "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
    "x-1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    "x-1-cp312-cp312-manylinux_2_28_aarch64.whl",
    "x-1-cp312-cp312-musllinux_1_2_x86_64.whl",
    "x-1-cp312-cp312-win_amd64.whl",
    "x-1-cp312-cp312-macosx_11_0_arm64.whl",
    "x-1-cp313-cp313t-manylinux_2_28_x86_64.whl",
    "x-1-cp313-cp313-manylinux_2_28_x86_64.whl",
    "x-1-cp37-abi3-manylinux_2_28_x86_64.whl",
    "x-1-cp313-abi3-manylinux_2_28_x86_64.whl",
    "x-1-cp315-abi3.abi3t-manylinux_2_17_x86_64.whl",
    "x-1-py3-none-manylinux2014_x86_64.whl",
    "x-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl",
]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("wheel", WHEELS)
def test_a_wheel_fits_if_its_tags_are_among_those_of_the_machine(
    wheel: str, minor: int, machine: str
) -> None:
    platforms = [f"manylinux_2_{glibc}_{machine}" for glibc in range(28, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    supported = {
        *tags.cpython_tags((3, minor), [f"cp3{minor}"], platforms),
        *tags.compatible_tags((3, minor), f"cp3{minor}", platforms),
    }
    expected = bool(supported & parse_wheel_filename(wheel)[3])
    assert fits(wheel, machine, minor) == expected


def pylock(*wheels: str) -> str:
    lines = [
        f'{{ url = "somewhere/{wheel}", hashes = {{ sha256 = "{number:064x}" }} }},'
        for number, wheel in enumerate(wheels, 1)
    ]
    return '[[packages]]\nname = "a-b"\nversion = "1"\nwheels = [\n' + "\n".join(lines) + "\n]\n"


def test_a_lock_holds_the_hashes_of_wheels_that_fit() -> None:
    text = lock(
        pins('# words\nA_b==1; python_version == "3.13"\ntorch==2\n'),
        pylock(
            "a_b-1-cp313-cp313-manylinux_2_28_x86_64.whl",
            "a_b-1-cp313-cp313-win_amd64.whl",
            "a_b-1-cp313-cp313-manylinux_2_28_aarch64.whl",
            "a_b-1-cp312-cp312-manylinux_2_28_x86_64.whl",
        ),
    )
    entry = "".join(line + "\n" for line in text.splitlines() if not line.startswith("#"))
    assert entry == (
        'A_b==1; python_version == "3.13" \\\n'
        f"    --hash=sha256:{1:064x} \\\n"
        f"    --hash=sha256:{3:064x}\n"
    )


def test_a_package_without_a_wheel_for_a_supported_python_is_named() -> None:
    with pytest.raises(ValueError, match=r"a-b==1 has no wheel for Python 3\.12 on x86_64"):
        lock(pins("a-b==1\n"), pylock("a_b-1-cp311-cp311-manylinux_2_28_x86_64.whl"))


def set_up(folder: Path, refused: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run set-up where pip only notes its arguments, and fails if `refused` is among them."""
    (folder / "scripts").mkdir()
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("scripts/setup.sh", "pyproject.toml", "constraints.txt", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv/bin/python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/calls\n'
        f'case "$*" in *"{refused or "nothing is refused"}"*) exit 1;; esac\n'
    )
    python.chmod(0o755)
    (folder / ".venv/bin/pip").symlink_to("python")
    return subprocess.run(
        ["bash", folder / "scripts/setup.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON_FOR_VENV": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_set_up_installs_by_hashes_and_pytorch_alone(tmp_path: Path) -> None:
    assert set_up(tmp_path).returncode == 0
    locked, torch, own, check = (tmp_path / "calls").read_text().splitlines()
    assert (
        "--no-deps --require-hashes --only-binary :all: --requirement requirements.lock" in locked
    )
    assert torch.endswith(f"--constraint constraints.txt torch=={pinned()['torch']}")
    assert own.endswith("--no-deps --no-build-isolation --editable .")
    assert check == "-m pip check"
    assert (tmp_path / ".venv/.set-up").exists()


def test_set_up_ends_if_a_hash_does_not_match(tmp_path: Path) -> None:
    done = set_up(tmp_path, refused="--require-hashes")
    assert done.returncode == 1
    assert "CIDC_UNLOCKED=1 make setup installs the same versions" in done.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert not (tmp_path / ".venv/.set-up").exists()


def test_set_up_ends_if_a_package_is_not_pinned(tmp_path: Path) -> None:
    done = set_up(tmp_path, refused="pip check")
    assert done.returncode == 1
    assert "packages are missing in constraints.txt" in done.stderr
    assert not (tmp_path / ".venv/.set-up").exists()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_dali_and_cupy_are_needed_on_linux_only(system: str) -> None:
    required = [Requirement(text) for text in WHOLE["project"]["dependencies"]]
    marked = {each.name: each.marker for each in required if each.marker}
    assert set(marked) == {"nvidia-dali-cuda130", "cupy-cuda13x"}
    for marker in marked.values():
        assert marker.evaluate({"sys_platform": "linux"})
        assert not marker.evaluate({"sys_platform": system})


def test_what_only_training_uses_is_in_its_extra() -> None:
    core = {canonicalize_name(Requirement(text).name) for text in WHOLE["project"]["dependencies"]}
    extra = WHOLE["project"]["optional-dependencies"]["train"]
    assert {"matplotlib", "tensorboard"} <= {Requirement(text).name for text in extra}
    assert not core & {canonicalize_name(Requirement(text).name) for text in extra}


def test_set_up_compares_no_hashes_if_asked(tmp_path: Path) -> None:
    done = set_up(tmp_path, refused="--require-hashes", CIDC_UNLOCKED="1")
    assert done.returncode == 0
    assert "hashes not compared" in done.stdout
    assert "--editable .[dev,train]" in (tmp_path / "calls").read_text()


def test_security_names_the_lowest_versions_that_are_required() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w., -]+?) \| (\d[\d., ]*) \|", text, re.MULTILINE)
    named = {
        canonicalize_name(name): Version(version)
        for names, versions in rows
        for name, version in zip(names.split(", "), versions.split(", "), strict=True)
    }
    assert len(named) >= 20
    for name, version in named.items():
        assert floors()[name] == version, name
    commented = re.findall(r'"([\w-]+)>=\S+", # \w', (ROOT / "pyproject.toml").read_text())
    assert {canonicalize_name(name) for name in commented} <= set(named)
