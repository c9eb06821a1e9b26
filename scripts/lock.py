"""Write requirements.lock: every package of constraints.txt but PyTorch, with SHA-256 hashes.

Also write `deploy/requirements-cpu.lock` and `deploy/requirements-gpu.lock`: the part of it that
the container images install.

    .venv/bin/python -m pip install uv
    .venv/bin/python -m scripts.lock

uv asks the package index that it is configured for; nothing is installed. The lock holds the
hashes of all wheels that pip may choose on Linux (x86_64 and aarch64) with a supported Python.
PyTorch is left out because its build differs by machine. What an image needs is read from the
packages that are installed here, so run this in the environment of `make setup`.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

__all__ = ["fits", "image_lock", "lock", "main", "needed", "pins"]

ROOT = Path(__file__).resolve().parent.parent
MACHINES = ("x86_64", "aarch64")
MINORS = (11, 12, 13)  # of Python 3
UNLOCKED = frozenset({"torch"})
HEADER = """\
# Made from constraints.txt by scripts/lock.py; do not edit.
# PyTorch is left out: its build differs by machine.
"""
IMAGE_HEADER = """\
# What the container image for a {target} installs, made by scripts/lock.py; do not edit.
# A part of requirements.lock.
"""
_EXTRAS = ("onvif", "otel", "srt")
IMAGES = {"cpu": _EXTRAS, "gpu": ("gpu", *_EXTRAS)}  # build target of deploy/Dockerfile: its extras
_UV = ("pip", "compile", "-", "--no-deps", "--universal", "--only-binary", ":all:", "--quiet")


def pins(constraints: str) -> list[Requirement]:
    """Return the requirement of every package to lock, in the order of constraints.txt."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    found = [Requirement(line) for line in lines if line]
    return [pin for pin in found if pin.name not in UNLOCKED]


def fits(wheel: str, machine: str, minor: int) -> bool:
    """Return whether pip may choose a wheel on Linux with glibc and CPython 3.`minor`."""
    tags = parse_wheel_filename(wheel)[3]
    return any(_machine_fits(tag, machine) and _python_fits(tag, minor) for tag in tags)


def _machine_fits(tag: Tag, machine: str) -> bool:
    built_for = re.fullmatch(rf"any|(?:many)?linux\w*_{machine}", tag.platform)
    return built_for is not None


def _python_fits(tag: Tag, minor: int) -> bool:
    pure = re.fullmatch(r"py3(\d*)", tag.interpreter)
    if pure:
        return int(pure[1] or 0) <= minor
    native = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    if native is None:
        return False
    if tag.abi == "abi3":
        return int(native[1]) <= minor
    return int(native[1]) == minor and tag.abi in ("none", f"cp3{minor}")


def lock(packages: list[Requirement], pylock: str) -> str:
    """Return the text of the lock, from a `pylock.toml` with every wheel of every package.

    Raises:
        ValueError: a package has no wheel for one of the supported versions of Python on x86_64.
    """
    wheels = {
        package["name"]: {
            wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"]
            for wheel in package.get("wheels", [])
        }
        for package in tomllib.loads(pylock)["packages"]
    }
    return HEADER + "".join(
        _entry(pin, wheels.get(canonicalize_name(pin.name), {})) for pin in packages
    )


def _entry(pin: Requirement, wheels: dict[str, str]) -> str:
    marker = pin.marker
    minors = [
        each for each in MINORS if not marker or marker.evaluate({"python_version": f"3.{each}"})
    ]
    for minor in minors:
        if not any(fits(wheel, MACHINES[0], minor) for wheel in wheels):
            raise ValueError(
                f"{pin} has no wheel for Python 3.{minor} on {MACHINES[0]}; "
                "pin another version in constraints.txt"
            )
    digests = {
        digest
        for wheel, digest in wheels.items()
        if any(fits(wheel, machine, minor) for machine in MACHINES for minor in minors)
    }
    hashes = (f"    --hash=sha256:{digest}" for digest in sorted(digests))
    return " \\\n".join([str(pin), *hashes]) + "\n"


def needed(extras: tuple[str, ...]) -> set[str]:
    """Return the packages that `pip install cidc-stream[EXTRAS]` brings on this machine.

    Raises:
        importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][each] for each in extras)]
    waiting = {canonicalize_name(Requirement(text).name) for each in lists for text in each}
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        requirements = map(Requirement, importlib.metadata.requires(name) or [])
        waiting |= {
            canonicalize_name(each.name)
            for each in requirements
            if each.marker is None or each.marker.evaluate({"extra": ""})
        } - found
    return found


def image_lock(text: str, *, target: str, names: set[str]) -> str:
    """Return the entries of a lock that belong to packages in `names`, for an image."""
    entries = re.findall(r"^[\w.-]+==.*(?:\n    .*)*\n", text, re.MULTILINE)
    kept = [each for each in entries if canonicalize_name(each.partition("==")[0]) in names]
    return IMAGE_HEADER.format(target=target.upper()) + "".join(kept)


def write_image_locks(text: str) -> None:
    """Write the files of hashes that deploy/Dockerfile installs, from requirements.lock's text."""
    for target, extras in IMAGES.items():
        path = ROOT / f"deploy/requirements-{target}.lock"
        path.write_text(image_lock(text, target=target, names=needed(extras)), encoding="utf-8")


def main() -> int:
    """Write all locks; return the exit status."""
    packages = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    python = f"3.{MINORS[0]}"
    done = subprocess.run(
        [sys.executable, "-m", "uv", *_UV, "--python-version", python, "--format", "pylock.toml"],
        input="\n".join(map(str, packages)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"error: uv cannot resolve constraints.txt: {done.stderr.strip()}", file=sys.stderr)
        print("if uv is missing: .venv/bin/python -m pip install uv", file=sys.stderr)
        return 1
    try:
        text = lock(packages, done.stdout)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (ROOT / "requirements.lock").write_text(text, encoding="utf-8")
    write_image_locks(text)
    print(f"wrote requirements.lock: {len(packages)} packages, {text.count('sha256:')} hashes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
