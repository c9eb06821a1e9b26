"""Run the install steps of deploy/Dockerfile in a folder, without a container engine.

    .venv/bin/python -m scripts.image_root --out .work/image --target cpu

The steps are read from the Dockerfile: the files that it copies, and its `pip` commands, with
their paths moved below the folder. Debian's packages are left out: this machine's Python takes
their place. `--link` does not install the locked packages, but links those of the environment that
runs this program, and installs only the project with pip: seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["DOCKERFILE", "Step", "build", "final_settings", "main", "stages"]

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy/Dockerfile"
_PIP = "/opt/pip/bin/pip --python /opt/cidc/bin/python "


@dataclasses.dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile, on one line: `RUN`, and what follows."""

    name: str
    value: str


def stages(text: str) -> dict[str, list[Step]]:
    """Return the instructions of every stage of a Dockerfile, by its name; FROM is the first."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found: dict[str, list[Step]] = {"": []}
    name = ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        step = Step(*line.split(maxsplit=1))
        if step.name == "FROM":
            name = step.value.rpartition(" AS ")[2]
            found[name] = []
        found[name].append(step)
    return found


def final_settings(text: str, target: str) -> dict[str, str]:
    """Return the last value of each instruction of an image, those of its base stages included."""
    every = stages(text)
    steps: list[Step] = []
    name = target
    while name in every:
        steps = every[name] + steps
        name = every[name][0].value.split()[0]
    return {step.name: step.value for step in steps}


def build(out: Path, *, target: str, link: bool) -> Path:
    """Make the environment of an image below a folder.

    Args:
        out: folder to make; what it had at `opt` and `src` is replaced.
        target: the image, `cpu` or `gpu`.
        link: link the locked packages of this environment instead of installing them.

    Returns:
        The folder of its programs.

    Raises:
        subprocess.CalledProcessError: a step failed; its output says why.
        ValueError: with `link`, this environment has another version than the lock.
    """
    for name in ("opt", "src"):
        shutil.rmtree(out / name, ignore_errors=True)
    environment = out / "opt/cidc"
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)], cwd=ROOT)
    source = out / "src"
    source.mkdir()
    steps = stages(DOCKERFILE.read_text(encoding="utf-8"))[f"builder-{target}"]
    arguments = {}
    for step in steps:
        if step.name == "ARG":
            name, _, default = step.value.partition("=")
            arguments[name] = os.environ.get(name, default)
        elif step.name == "COPY":
            _copy(step.value.split(), source)
        elif step.name == "RUN":
            for command in step.value.split("&&"):
                _pip(command.strip(), out, arguments, link=link)
    return environment / "bin"


def _copy(names: list[str], source: Path) -> None:
    *files, target = names
    for name in files:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / target, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / target)


def _pip(command: str, out: Path, arguments: dict[str, str], *, link: bool) -> None:
    """Run one pip command of the Dockerfile, or link what it would install."""
    if not command.startswith(_PIP):
        raise ValueError(f"deploy/Dockerfile runs {command!r}, which this program cannot run")
    command = re.sub(
        r"\$\{(\w+):\+([^}]*)\}", lambda found: found[2] if arguments[found[1]] else "", command
    )
    for name, value in arguments.items():
        command = command.replace(f"${{{name}}}", value).replace(f"${name}", value)
    words = shlex.split(command.removeprefix(_PIP))
    python = out / "opt/cidc/bin/python"
    if link and words[0] == "install" and words[-1] != ".":
        if "--requirement" in words:
            lines = (out / "src" / words[-1]).read_text(encoding="utf-8").splitlines()
            wanted = [line.rstrip(" \\") for line in lines if "==" in line and line[0] != "#"]
        else:
            wanted = words[-1:]
        for each in wanted:
            _link(Requirement(each), python)
        return
    _run([sys.executable, "-m", "pip", "--python", str(python), *words], cwd=out / "src")


def _link(requirement: Requirement, python: Path) -> None:
    """Link what one installed package has in `site-packages` into another environment."""
    found = importlib.metadata.distribution(requirement.name)
    if not requirement.specifier.contains(found.version):
        raise ValueError(f"{requirement} is wanted, {found.version} is installed: run make setup")
    here = Path(sysconfig.get_path("purelib"))
    there = python.parent.parent / here.relative_to(sys.prefix)
    for parts in {
        _linked(here, file.parts) for file in found.files or [] if ".." not in file.parts
    }:
        (there / parts).parent.mkdir(exist_ok=True)
        if not (there / parts).exists():
            (there / parts).symlink_to(here / parts)


def _linked(folder: Path, parts: tuple[str, ...]) -> Path:
    """Return what to link for a file: packages share the first folder of names like `nvidia.x`."""
    is_shared = len(parts) > 2 and not any((folder / parts[0]).glob("__init__.*"))
    return Path(*parts[: 2 if is_shared and not parts[0].endswith("-info") else 1])


def _run(command: list[str], *, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        done.check_returncode()


def main() -> int:
    """Build the environment and print its size; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--target", choices=("cpu", "gpu"), default="cpu", help="image to build")
    parser.add_argument("--link", action="store_true", help="link packages of this environment")
    options = parser.parse_args()
    programs = build(options.out.resolve(), target=options.target, link=options.link)
    files = [
        path for path in programs.parent.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    size = sum(path.stat().st_size for path in files)
    print(f"{programs}: {len(files)} files, {size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
