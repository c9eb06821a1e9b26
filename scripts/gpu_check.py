"""Check a machine with a GPU: run tests, sanitizer and benchmarks, and write a Markdown report.

The check needs PyTorch, CuPy and pytest, and no network. If another package is missing (DALI, PyAV,
pydantic, compute-sanitizer), the report lists it, and the parts that need it are skipped. Each part
runs in a separate process with a time limit, so that a hang or crash affects only that part. All
parts together take at most nine minutes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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
    "kafka-python",
)
# Packages that may be missing. If a module of this project is missing, the check fails.
_MISSING = re.compile(
    r"ModuleNotFoundError: No module named"
    r" '(pydantic|pydantic_core|nvidia|av|safetensors|rich|yaml|cv2)[\w.]*'"
)
# Folder of the packages that `make gpu-wheels` downloads; they are used if the folder exists.
WHEELS = ROOT / ".gpu-wheels"
# Time limit of each part in seconds; the sum is the total time in the docstring above.
LIMITS = {
    "tests": 160,
    "sanitizer": 90,
    "mixing": 100,
    "network": 55,
    "compiled-network": 65,
    "training": 70,
}


def main() -> int:
    """Write the report to the file named on the command line (default `gpu-report.md`).

    Returns:
        0 if all parts that ran passed, 1 if a part failed, 2 if no GPU was found.
    """
    report = Path(sys.argv[1] if len(sys.argv) > 1 else "gpu-report.md").resolve()
    try:
        import torch
    except ImportError:
        print("error: PyTorch is not installed here; `make setup` installs it", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device; this check needs one", file=sys.stderr)
        return 2
    started_at = time.monotonic()
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        _use_wheels(Path(folder) / "site")
        lines = ["# GPU check", "", *_machine()]
        for title, run in PARTS.items():
            print(f"== {title}", flush=True)
            good, text = run(Path(folder))
            passed.append(good)
            lines += ["", f"## {title}{'' if good else ': FAILED'}", "", *text]
            # The report is written after every part, so that it is not lost if a later part crashes
            # the machine.
            report.write_text(
                "\n".join([*lines, "", f"{time.monotonic() - started_at:.0f} s in all.", ""]),
                encoding="utf-8",
            )
    print(report.read_text(encoding="utf-8"))
    return 0 if all(passed) else 1


def _use_wheels(site: Path) -> None:
    """Install the downloaded packages that this machine does not have into the folder `site`."""
    wheels = sorted(
        str(path)
        for path in WHEELS.glob("*.whl")
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
        status, text = _run(command, 60)
        print(text if status else f"using {len(wheels)} wheels of {WHEELS.name}")
        sys.path.append(str(site))
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [os.environ.get("PYTHONPATH"), str(site)])
        )


def _machine() -> list[str]:
    import torch

    driver = (
        _run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], 20)[1].strip()
        or "driver unknown"
    )
    name = torch.cuda.get_device_name()
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    commit = (
        _run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], 20)[1].strip()
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
    ]


def _tests(folder: Path) -> tuple[bool, list[str]]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/gpu",
        "-q",
        "-ra",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "--tb=short",
        "--durations=8",
    ]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", "4"]  # compiling kernels takes most of the time
    status, text = _run(
        [*command, "--override-ini=addopts=", f"--basetemp={folder / 'pytest'}"], LIMITS["tests"]
    )
    return status == 0, _block(text, 40)


def _sanitizer(folder: Path) -> tuple[bool, list[str]]:
    """Check small cases for memory errors and races; each tensor has its own allocation."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return True, ["Not run: compute-sanitizer is not on the PATH."]
    lines = []
    good = True
    for check in ("memcheck", "racecheck"):
        # Do not check PyTorch's kernels, and ignore calls in its libraries that fail on purpose.
        command = [
            tool,
            "--tool",
            check,
            "--error-exitcode",
            "9",
            "--kernel-name",
            "kernel_substring=mix_",
        ]
        command += ["--kernel-name", "kernel_substring=gather_clips"]
        command += ["--report-api-errors", "no"] if check == "memcheck" else []
        command += [sys.executable, "-m", "scripts.gpu_parts", "small-kernels"]
        status, text = _run(command, LIMITS["sanitizer"] // 2, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        clean = "ERROR SUMMARY" not in text or "ERROR SUMMARY: 0 errors" in text
        good &= clean and status in (0, 124)
        words = {
            0: "passed",
            124: "not finished in time; what ran was clean if nothing is reported below",
        }
        lines += [f"{check}: {words.get(status, f'status {status}')}", "", *_block(text, 12), ""]
    return good, lines


def _mixing(folder: Path) -> tuple[bool, list[str]]:
    table = folder / "mixing.md"
    command = [
        sys.executable,
        "-m",
        "benchmarks.mixing",
        "--device",
        "cuda",
        "--graphs",
        "--compiled",
        "--markdown",
        str(table),
    ]
    status, text = _run(command, LIMITS["mixing"])
    if table.is_file():
        return status == 0, table.read_text(encoding="utf-8").splitlines()
    return False, _block(text, 30)


def _network(folder: Path) -> tuple[bool, list[str]]:
    return _part("network")


def _compiled(folder: Path) -> tuple[bool, list[str]]:
    return _part("compiled-network")


def _training(folder: Path) -> tuple[bool, list[str]]:
    return _part("training")


def _part(name: str) -> tuple[bool, list[str]]:
    status, text = _run([sys.executable, "-m", "scripts.gpu_parts", name], LIMITS[name])
    shown = [line for line in text.splitlines() if not line or line.startswith(("|", "-"))]
    last = text.strip().splitlines()[-1] if text.strip() else ""
    if status == 1 and _MISSING.match(last):
        return True, [
            *shown,
            "",
            (
                f"The rest was not measured: {last}. `make gpu-wheels`, on a machine with a"
                " network, downloads what is missing."
            ),
        ]
    return status == 0, shown if status == 0 else [*shown, "", *_block(text, 20)]


PARTS = {
    "Tests": _tests,
    "compute-sanitizer": _sanitizer,
    "Directional mixing": _mixing,
    "Network": _network,
    "Network, compiled": _compiled,
    "Training": _training,
}


def _run(command: Sequence[str], seconds: float, **environment: str) -> tuple[int, str]:
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


def _block(text: str, lines: int) -> list[str]:
    return ["```", *text.strip().splitlines()[-lines:], "```"]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
