"""The parts of the GPU check that need no GPU: commands, limits, skips, failures."""

import argparse
import importlib
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import graphs
from benchmarks.mixing_table import Line, as_markdown
from scripts import gpu_check, gpu_machine, gpu_parts
from scripts.gpu_check import HALVES, LIMITS, PARTS, Outcome
from scripts.gpu_libraries import check_libraries, cudnn_line
from scripts.gpu_live import run_live
from scripts.gpu_skips import EXPECTED_SKIPS, is_expected
from scripts.gpu_targets import TARGETS, figures_in, mixing_figures, print_figure, targets_table
from scripts.gpu_training import waiting_fraction
from tests import ROOT
from tests.support.dali_parity import BT601, BT709, decoded_both_ways, write_tagged
from tests.train.test_readers import write_vp9

# A grandchild holds the pipe open: it must end too, or it would go on using the GPU.
HANGING = """
import subprocess, sys
print("half", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).wait()
"""


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "machine_lines", lambda: ["a machine"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert gpu_check.main([]) == 2
    assert "finds no CUDA device" in capsys.readouterr().err


@pytest.mark.usefixtures("no_machine")
def test_the_report_lists_what_ran_and_what_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    good = Outcome(True, ["all well"], {"network_clips_per_second": 1600.0})
    bad = Outcome(False, ["broken"], {"mixing_backward": 0.5})
    monkeypatch.setitem(PARTS, "libraries", ("Good", lambda *_: good))
    monkeypatch.setitem(PARTS, "training", ("Bad", lambda *_: bad))
    assert gpu_check.main([str(report), "--only", "libraries"]) == 0
    assert gpu_check.main([str(report), "--only", "libraries", "training"]) == 1
    text = report.read_text()
    assert "## Good\n\nall well" in text
    assert "## Bad: FAILED\n\nbroken" in text
    targets = text[text.index("## Targets") :]
    for words in ("copy | at least 0.9 | not measured |", "at least 0.8 | 0.5 | missed |"):
        assert words in targets
    assert "at least 1500 | 1600 | met |" in targets


def test_each_half_takes_at_most_nine_minutes() -> None:
    assert list(HALVES) == ["network", "cameras"]
    assert all(sum(half.values()) <= 540 for half in HALVES.values())
    assert list(LIMITS) == [name for half in HALVES.values() for name in half]
    assert set(PARTS) == {*LIMITS, *gpu_check.EXTRA_LIMITS}


@pytest.mark.usefixtures("no_machine")
@pytest.mark.parametrize("half", list(HALVES))
def test_a_half_runs_its_parts_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, half: str
) -> None:
    ran: list[str] = []

    def part(name: str) -> tuple[str, gpu_check.Part]:
        return name, lambda *_: ran.append(name) or Outcome(True, [])  # type: ignore[func-returns-value]

    for name in PARTS:
        monkeypatch.setitem(PARTS, name, part(name))
    assert gpu_check.main([str(tmp_path / "report.md"), "--half", half]) == 0
    assert ran == list(HALVES[half])


def test_parts_are_stopped_at_their_limit_and_keep_what_they_printed() -> None:
    started_at = time.monotonic()
    status, text = gpu_machine.run([sys.executable, "-c", HANGING], 2)
    assert time.monotonic() - started_at < 20
    assert status == 124
    assert "half" in text
    assert "stopped after 2 s" in text
    assert gpu_machine.run(["no-such-command"], 2)[0] == 127


def test_the_table_of_graphs_shows_padding_and_medians(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [graphs.Line(3, 4, [2e-3, 2e-3, 4e-3], [1e-3, 1e-3, 1e-3])]
    table = graphs.as_markdown(lines, "a GPU").splitlines()
    assert table[0] == "a GPU"
    assert table[-1] == "| 3 | 4 | 2.00 (2.00 - 3.20) | 1.00 (1.00 - 1.00) | 2.00 |"
    assert graphs._counts(6) == [1, 2, 3, 4, 5, 6]
    assert graphs._counts(32) == [1, 2, 3, 4, 5, 8, 9, 16, 17, 32]
    if not torch.cuda.is_available():
        assert graphs.main([]) == 2
        assert "need a CUDA device" in capsys.readouterr().err


class ParsedError(Exception):
    """Raised by a command after it has parsed its options."""


def test_the_command_of_every_part_exists_and_parses_its_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], *_: object, **__: object) -> tuple[int, str]:
        commands.append(command)
        return 0, ""

    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, options: list[str]) -> None:
        parse(parser, options)
        raise ParsedError

    monkeypatch.setattr(gpu_check, "run", note)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda _: "/usr/bin/compute-sanitizer")
    for name, (_, part) in PARTS.items():
        before = len(commands)
        part(tmp_path, ["pyav"])
        assert len(commands) > before, name
    parts = []
    for command in commands:
        module, *options = command[command.index("-m") + 1 :]
        if module == "scripts.gpu_parts":
            parts.append(gpu_parts.parser().parse_args(options).part)
        elif module.startswith("benchmarks."):
            benchmark = importlib.import_module(module)
            with monkeypatch.context() as patched:
                patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
                with pytest.raises(ParsedError):
                    benchmark.main(options)
        else:
            assert module == "pytest"
            files = [option for option in options if option.startswith("tests/")]
            assert files
            assert all((ROOT / file).is_file() for file in files)
    assert {*parts} == {"libraries", *gpu_parts.PARTS}


@pytest.mark.slow
def test_a_skip_that_is_not_expected_fails_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU, pytest passes: every test is skipped."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.setitem(LIMITS, "dali", 240)  # a busy machine takes longer than one with a GPU
    outcome = PARTS["dali"][1](tmp_path, [])
    assert not outcome.passed
    assert any("unexpected skip: needs a CUDA device" in line for line in outcome.lines)
    assert any("passed" in line or "skipped" in line for line in outcome.lines)


def test_expected_skips_have_reasons_that_exist() -> None:
    files = [*(ROOT / "tests/gpu").glob("*.py"), ROOT / "scripts/gpu_check.py"]
    files += [ROOT / "model/media/nvdec_library.py", ROOT / "model/pycuda_memory.py"]
    sources = "".join(path.read_text() for path in files)
    for reason, why in EXPECTED_SKIPS.items():
        assert reason in sources
        assert why
        assert is_expected(f"Skipped: {reason}", [])
    assert not is_expected("DALI is not installed", ["pyav"])
    assert is_expected("DALI is not installed", ["dali"])
    assert is_expected("PyNvVideoCodec is not installed", ["nvdec"])
    assert not is_expected("PyNvVideoCodec is not installed", ["dali"])


def test_a_part_whose_packages_are_missing_fails_unless_that_was_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = PARTS["network"][1]

    def prints(text: str) -> None:
        monkeypatch.setattr(gpu_check, "run", lambda *_, **__: (1, text))

    prints("- half\nTraceback\nModuleNotFoundError: No module named 'pydantic'")
    outcome = part(Path(), [])
    assert not outcome.passed
    assert "- half" in outcome.lines
    assert "not measured: ModuleNotFoundError: No module named 'pydantic'" in outcome.lines[-1]
    assert "--without" in outcome.lines[-1]
    assert part(Path(), ["pydantic"]).passed
    assert not part(Path(), ["dali"]).passed
    for text in (
        "ModuleNotFoundError: No module named 'model.netwrok'",
        "ModuleNotFoundError: No module named 'pydantic'\nstopped after 3 s",
        "- half\nAssertionError: CPU and GPU disagree",
    ):
        prints(text)
        assert not part(Path(), ["pydantic"]).passed
    monkeypatch.setattr(gpu_check.shutil, "which", lambda _: None)
    expected = Outcome(True, ["Not run: compute-sanitizer is not on the PATH."])
    assert PARTS["sanitizer"][1](Path(), []) == expected


@pytest.mark.parametrize(
    ("version", "text", "warns"),
    [
        (90701, "9.7.1", False),
        (90800, "9.8.0", True),
        (91002, "9.10.2", True),
        (91400, "9.14.0", True),
        (91501, "9.15.1", False),
        (None, "no cuDNN", True),
    ],
)
def test_cudnn_is_named_and_doubtful_versions_are_warned_of(
    version: int | None, text: str, warns: bool
) -> None:
    line = cudnn_line(version)
    assert text in line
    assert ("WARNING" in line) == warns


def test_every_library_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(AssertionError, match=r"libnvcuvid.*PyTorch.*cuDNN.*CuPy.*DALI"):
        check_libraries([])
    assert "- libnvcuvid.so.1 (decodes video): FAILED, OSError" in capsys.readouterr().out
    with pytest.raises(AssertionError) as raised:
        check_libraries(["dali"])
    assert "DALI" not in str(raised.value)


def test_figures_are_found_in_what_parts_print(capsys: pytest.CaptureFixture[str]) -> None:
    print_figure("network_clips_per_second", 1612.4)
    print_figure("training_wait_fraction", 0.0004)
    printed = capsys.readouterr().out.splitlines()
    assert figures_in(["| a | b |", *printed]) == {
        "network_clips_per_second": 1612.0,
        "training_wait_fraction": 0.0004,
    }
    lines = [
        Line(memory, size, batch, step, contender, 1.0, 1.0, 1.0, of_copy)
        for memory, size, batch, step, contender, of_copy in (
            ("last", "a", 64, "forward", "ours", 0.95),
            ("last", "b", 64, "forward", "ours", 0.91),
            ("last", "a", 64, "backward", "ours", 0.82),
            ("last", "b", 1, "forward", "ours", 0.2),
            ("planar", "b", 64, "forward", "ours", 0.3),
            ("last", "b", 64, "forward", "eager", 0.1),
        )
    ]
    lines += [
        Line(line.memory, line.map, line.batch, line.step, "ours", 1.0, 1.0, 1.0, 0.99)
        for line in lines[-1:]
    ]
    table = as_markdown(lines, "H100").splitlines()
    assert mixing_figures(table) == {"mixing_forward": 0.91, "mixing_backward": 0.82}
    assert mixing_figures([]) == {}


def test_parts_and_minutes_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs/how-to/gpu.md").read_text()
    table = text[text.index("| Part | What it does |") :].split("\n\n")[0]
    listed = re.findall(r"^\| (?:\*\*)?`(?:HALF=)?(\w+)`", table, re.M)
    assert listed == [name for half, parts in HALVES.items() for name in (half, *parts)]
    assert f"takes at most {math.ceil(sum(LIMITS.values()) / 60)} minutes" in text


def test_the_targets_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs/how-to/gpu.md").read_text()
    for target in TARGETS:
        assert f"| {target.meaning} | {target.bound} {target.value:g} |" in text
    found = targets_table({"training_wait_fraction": 0.02, "decoder_frames_per_second": 3200.0})
    (missed,) = [line for line in found if line.endswith("| missed |")]
    (met,) = [line for line in found if line.endswith("| met |")]
    assert missed.endswith("| at most 0.01 | 0.02 | missed |")
    assert met.endswith("| at least 3000 | 3200 | met |")


@pytest.mark.slow
def test_the_live_part_runs_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    summary = run_live(
        cameras=2, seconds=8.0, device="cpu", size=(160, 96), depth=18, side=32, width=8
    )
    assert set(summary["cameras"]) == {"c0", "c1"}
    printed = capsys.readouterr().out
    assert "one run of preprocessing: p50" in printed
    assert figures_in(printed.splitlines())["preprocess_p99_ms"] > 0


@pytest.mark.slow
def test_the_training_part_measures_waiting_on_the_cpu(tmp_path: Path) -> None:
    files = [write_vp9(tmp_path / "a.webm")]
    settings: dict[str, Any] = {"side": 32, "depth": 18, "width": 8}
    device = torch.device("cpu")
    fraction = waiting_fraction(files, device=device, batch=2, steps=3, **settings)
    assert 0 <= fraction < 1


@pytest.mark.parametrize("matrix", [BT601, BT709])
def test_dalis_frames_are_compared_with_those_of_software(tmp_path: Path, matrix: int) -> None:
    path = write_tagged(tmp_path / "a.webm", "libvpx-vp9", (192, 108), matrix)
    by_dali, by_software = decoded_both_ways(path, torch.device("cpu"))
    difference = (by_dali.int() - by_software.int()).abs().float()
    assert difference.mean() < 2
    assert difference.mean(dim=(1, 2, 3)).max() < 3
    # The three crops differ, and the marked bottom rows are in the last one.
    assert (by_dali[0].int() - by_dali[2].int()).abs().float().mean() > 5
    assert difference[2, :, -4:].mean() < 5
