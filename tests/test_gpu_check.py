"""The parts of the GPU check that need no GPU: limits, what is missing, what failed."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests import ROOT

# A grandchild holds the pipe open: it must end too, or it would go on using the GPU.
HANGING = """
import subprocess, sys
print("half", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).wait()
"""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_machine", lambda: ["a machine"])
    return module


def test_without_a_gpu_it_says_so(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert check.main() == 2
    assert "finds no CUDA device" in capsys.readouterr().err


def test_the_report_lists_what_ran_and_what_failed(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(report)])
    monkeypatch.setattr(
        check,
        "PARTS",
        {"Good": lambda folder: (True, ["all well"]), "Bad": lambda folder: (False, ["broken"])},
    )
    assert check.main() == 1
    text = report.read_text()
    assert "## Good\n\nall well" in text
    assert "## Bad: FAILED\n\nbroken" in text


def test_parts_are_stopped_at_their_limit_and_keep_what_they_printed(check: ModuleType) -> None:
    started_at = time.monotonic()
    status, text = check._run([sys.executable, "-c", HANGING], 2)
    assert time.monotonic() - started_at < 20
    assert status == 124
    assert "half" in text
    assert "stopped after 2 s" in text
    assert check._run(["no-such-command"], 2)[0] == 127
    assert sum(check.LIMITS.values()) <= 540


def test_a_part_whose_packages_are_missing_is_skipped_and_named(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        check,
        "_run",
        lambda *_, **__: (1, "Traceback\nModuleNotFoundError: No module named 'pydantic'"),
    )
    good, lines = check._network(Path())
    assert good
    assert "was not measured: ModuleNotFoundError: No module named 'pydantic'" in lines[-1]
    for text in (
        "ModuleNotFoundError: No module named 'model.netwrok'",
        "ModuleNotFoundError: No module named 'pydantic'\nstopped after 3 s",
    ):
        monkeypatch.setattr(check, "_run", lambda *_, text=text, **__: (1, text))
        assert not check._network(Path())[0]
    monkeypatch.setattr(
        check, "_run", lambda *_, **__: (1, "- half\nAssertionError: CPU and GPU disagree")
    )
    good, lines = check._network(Path())
    assert not good
    assert "- half" in lines
    monkeypatch.setattr(check.shutil, "which", lambda _: None)
    assert check._sanitizer(Path()) == (True, ["Not run: compute-sanitizer is not on the PATH."])
