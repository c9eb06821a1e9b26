"""Facts about the machine of a GPU check, and how the check runs commands on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["block", "machine_lines", "run", "use_wheels"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "torch",
    "triton",
    "cupy-cuda13x",
    "numpy",
    "pytest",
    "pydantic",
    "nvidia-dali-cuda130",
    "av",
    "pynvvideocodec",
    "nvidia-ml-py",
    "pycuda",
    "kafka-python",
)
# Folders of the packages that `make gpu-wheels` downloads; they are used if they exist.
WHEELS = ".gpu-wheels*/*.whl"


def use_wheels(site: Path) -> None:
    """Install the downloaded packages that this machine does not have into the folder `site`."""
    wheels = sorted(
        str(path)
        for path in ROOT.glob(WHEELS)
        if _version(path.name.split("-")[0]) == "not installed"
    )
    if wheels:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--target",
            str(site),
            *wheels,
        ]
        status, text = run(command, 60)
        print(text if status else f"using {len(wheels)} wheels of .gpu-wheels")
        sys.path.append(str(site))
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [os.environ.get("PYTHONPATH"), str(site)])
        )


def machine_lines() -> list[str]:
    """Return lines of Markdown: date, GPU, driver, commit, versions."""
    import torch

    from scripts.gpu_libraries import cudnn_line

    driver = (
        run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], 20)[1].strip()
        or "driver unknown"
    )
    name = torch.cuda.get_device_name()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    commit = (
        run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], 20)[1].strip()
        or "no git here"
    )
    lines = [
        (
            f"{time.strftime('%Y-%m-%d')}, {name}, {memory:.0f} GiB, {driver}, Python"
            f" {platform.python_version()}, commit {commit}"
        ),
        "",
    ]
    return [
        *lines,
        "Command: `make gpu-check`",
        "",
        *(f"- {name} {_version(name)}" for name in PACKAGES),
        f"- cuDNN {cudnn_line(torch.backends.cudnn.version())}",
    ]


def run(command: Sequence[str], seconds: float, **environment: str) -> tuple[int, str]:
    """Run a command and return its status and output.

    The status is 124 if the time limit is exceeded and 127 if the command is not found. Processes
    that the command started are ended with it.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
    except FileNotFoundError as error:
        return 127, str(error)
    try:
        text, _ = process.communicate(timeout=seconds)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return 124, f"{text}\nstopped after {seconds:.0f} s"


def block(text: str, lines: int) -> list[str]:
    """Return the last lines of a text as a block of code."""
    return ["```", *text.strip().splitlines()[-lines:], "```"]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
