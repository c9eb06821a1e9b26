"""Check a machine with a GPU part by part, and write a Markdown report.

    python -m scripts.gpu_check [REPORT] [--half NAME] [--only PART ...] [--without NAME ...]

Each part stands alone: it runs in a separate process with a time limit, so that a hang or crash
affects only that part, and `--only` runs it by itself. The parts have two halves, `network` and
`cameras`, that take at most nine minutes each; they need no network. A test that is skipped for a
reason that is not listed in `EXPECTED_SKIPS` fails its part, and so does a package that is missing
(DALI, PyAV, pydantic), unless `--without` names it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.gpu_machine import block, machine_lines, run, use_wheels
from scripts.gpu_skips import HINT, PACKAGES_OF, is_expected, missing_module, skips_in
from scripts.gpu_targets import figures_in, mixing_figures, targets_table

# Time limit of each part in seconds; the sums are the times in the docstring above.
HALVES = {
    "network": {
        "libraries": 25,
        "kernels": 125,
        "sanitizer": 40,
        "mixing": 75,
        "network": 45,
        "engines": 60,
        "graphs": 45,
        "training": 70,
    },
    "cameras": {
        "decoding": 110,
        "dali": 50,
        "decoders": 60,
        "staging": 40,
        "live": 60,
        "fleets": 200,
    },
}
LIMITS = {name: limit for half in HALVES.values() for name, limit in half.items()}
# Parts that run only if `--only` names them.
EXTRA_LIMITS = {"compiled-network": 65}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a part found: whether it passed, lines of Markdown, and figures by name."""

    passed: bool
    lines: list[str]
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and write the report.

    Returns:
        0 if all parts passed, 1 if a part failed, 2 if no GPU was found.
    """
    options = parser().parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("error: PyTorch is not installed here; `make setup` installs it", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device; this check needs one", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        use_wheels(Path(folder) / "site")
        passed = _run_parts(options, Path(folder))
    print(options.report.read_text(encoding="utf-8"))
    return 0 if passed else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    made.add_argument("report", nargs="?", type=Path, default=Path("gpu-report.md"))
    made.add_argument(
        "--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"one of {', '.join(PARTS)}"
    )
    made.add_argument(
        "--half",
        choices=list(HALVES),
        help="run only this half, on machines that limit a command to ten minutes",
    )
    made.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=list(PACKAGES_OF),
        metavar="NAME",
        help=f"packages that this machine need not have: {', '.join(PACKAGES_OF)}",
    )
    return made


def _run_parts(options: argparse.Namespace, folder: Path) -> bool:
    started_at = time.monotonic()
    lines = ["# GPU check", "", *machine_lines()]
    passed: list[bool] = []
    figures: dict[str, float] = {}
    for name in options.only or HALVES.get(options.half, LIMITS):
        title, run_part = PARTS[name]
        print(f"== {title}", flush=True)
        outcome = run_part(folder, options.without)
        passed.append(outcome.passed)
        figures |= outcome.figures
        lines += ["", f"## {title}{'' if outcome.passed else ': FAILED'}", "", *outcome.lines]
        # The report is written after every part, so that it is not lost if a later part crashes
        # the machine.
        seconds = f"{time.monotonic() - started_at:.0f} s in all."
        targets = ["", "## Targets", "", *targets_table(figures)]
        options.report.write_text("\n".join([*lines, *targets, "", seconds, ""]), encoding="utf-8")
    return all(passed)


def _tests(name: str, files: Sequence[str], folder: Path, without: Sequence[str]) -> Outcome:
    """Run test files; a skip that is not expected fails the part."""
    results = folder / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", *files, "-q", "-ra", "-p", "no:cacheprovider"]
    command += ["-W", "default", "--tb=short", "--durations=8", f"--junitxml={results}"]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", "4"]  # compiling kernels takes most of the time
    command += ["--override-ini=addopts=", f"--basetemp={folder / name}"]
    status, text = run(command, LIMITS[name])
    skips = skips_in(results)
    unexpected = [reason for reason in skips if not is_expected(reason, without)]
    lines = block(text, 40)
    lines += [f"- unexpected skip: {reason}" for reason in dict.fromkeys(unexpected)]
    if unexpected:
        lines.append(f"- install what is missing, or accept it: {HINT}")
    return Outcome(status == 0 and not unexpected, lines)


def _kernels(folder: Path, without: Sequence[str]) -> Outcome:
    files = [
        f"tests/gpu/test_{name}.py"
        for name in ("mixing", "clip_gather", "nv12", "network", "training")
    ]
    return _tests("kernels", files, folder, without)


def _dali(folder: Path, without: Sequence[str]) -> Outcome:
    files = ["tests/gpu/test_dali_parity.py", "tests/gpu/test_pipeline.py"]
    return _tests("dali", files, folder, without)


def _engines(folder: Path, without: Sequence[str]) -> Outcome:
    files = ["tests/gpu/test_cuda_graphs.py", "tests/gpu/test_tensorrt.py"]
    return _tests("engines", files, folder, without)


def _sanitizer(folder: Path, without: Sequence[str]) -> Outcome:
    """Check small cases for memory errors and races; each tensor has its own allocation."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        reason = "compute-sanitizer is not on the PATH"
        return Outcome(is_expected(reason, without), [f"Not run: {reason}."])
    lines = []
    good = True
    for check in ("memcheck", "racecheck"):
        # Do not check PyTorch's kernels, and ignore calls in its libraries that fail on purpose.
        command = [tool, "--tool", check, "--error-exitcode", "9"]
        command += ["--kernel-name", "kernel_substring=mix_"]
        command += ["--kernel-name", "kernel_substring=gather_clips"]
        command += ["--kernel-name", "kernel_substring=surface_to_rgb"]
        command += ["--report-api-errors", "no"] if check == "memcheck" else []
        command += [sys.executable, "-m", "scripts.gpu_parts", "small-kernels"]
        status, text = run(command, LIMITS["sanitizer"] // 2, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        clean = "ERROR SUMMARY" not in text or "ERROR SUMMARY: 0 errors" in text
        good &= clean and status in (0, 124)
        words = {
            0: "passed",
            124: "not finished in time; what ran was clean if nothing is reported below",
        }
        lines += [f"{check}: {words.get(status, f'status {status}')}", "", *block(text, 12), ""]
    return Outcome(good, lines)


def _decoding(folder: Path, without: Sequence[str]) -> Outcome:
    files = [f"tests/gpu/test_{name}.py" for name in ("nvdec", "staging", "pipeline_nvdec")]
    return _tests("decoding", files, folder, without)


def _mixing(folder: Path, without: Sequence[str]) -> Outcome:
    options = ["--device", "cuda", "--graphs", "--compiled"]
    outcome = _benchmark("mixing", folder, options)
    return dataclasses.replace(outcome, figures=mixing_figures(outcome.lines))


def _benchmark(name: str, folder: Path, options: Sequence[str] = ()) -> Outcome:
    """Run `benchmarks.NAME`; its lines are the Markdown that it writes."""
    table = folder / f"{name}.md"
    command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--markdown", str(table)]
    status, text = run(command, LIMITS[name])
    if not table.is_file():
        return Outcome(False, block(text, 30))
    return Outcome(status == 0, table.read_text(encoding="utf-8").splitlines())


def _decoders(_: Path, without: Sequence[str]) -> Outcome:
    if "nvdec" in without:
        return Outcome(True, ["Not run: PyNvVideoCodec was accepted as missing."])
    return _part("decoders", without)


def _part(name: str, without: Sequence[str]) -> Outcome:
    command = [sys.executable, "-m", "scripts.gpu_parts", name]
    command += [part for package in without for part in ("--without", package)]
    status, text = run(command, (LIMITS | EXTRA_LIMITS)[name])
    printed = text.splitlines()
    shown = [line for line in printed if not line or line.startswith(("|", "-"))]
    figures = figures_in(printed)
    if status == 0:
        return Outcome(True, shown, figures)
    last = text.strip().splitlines()[-1] if text.strip() else ""
    missing = missing_module(last)
    if status != 1 or missing is None:
        return Outcome(False, [*shown, "", *block(text, 20)], figures)
    accepted = any(missing in PACKAGES_OF[package] for package in without)
    hint = "it was accepted with --without" if accepted else HINT
    return Outcome(accepted, [*shown, "", f"The rest was not measured: {last}; {hint}."], figures)


def _run_part(name: str) -> Callable[[Path, Sequence[str]], Outcome]:
    return lambda _, without: _part(name, without)


Part = Callable[[Path, Sequence[str]], Outcome]
PARTS: dict[str, tuple[str, Part]] = {
    "libraries": ("Driver libraries", _run_part("libraries")),
    "kernels": ("Kernels: tests", _kernels),
    "sanitizer": ("Kernels: compute-sanitizer", _sanitizer),
    "mixing": ("Kernels: directional mixing", _mixing),
    "network": ("Network", _run_part("network")),
    "engines": ("CUDA graphs and TensorRT: tests", _engines),
    "graphs": ("CUDA graphs by batch size", lambda folder, _: _benchmark("graphs", folder)),
    "training": ("Training", _run_part("training")),
    "decoding": ("NVDEC and page-locked memory: tests", _decoding),
    "dali": ("DALI: the same frames as in software", _dali),
    "decoders": ("NVDEC: 7 to 112 decoders", _decoders),
    "staging": ("Copies to the GPU", lambda folder, _: _benchmark("staging", folder)),
    "live": ("Sixteen cameras, a busy network", _run_part("live")),
    "fleets": ("16, 64 and 128 cameras", _run_part("fleets")),
    "compiled-network": ("Network, compiled", _run_part("compiled-network")),
}


if __name__ == "__main__":
    sys.exit(main())
