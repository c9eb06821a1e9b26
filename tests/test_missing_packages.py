"""Without DALI, CuPy or the extra `train`: events can be read; other commands end in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import model.media
from stream.__main__ import main
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests import ROOT
from tests.support.coded_video import write_video
from tests.support.command_line import write_config
from tests.support.factory import make_event

LINUX_ONLY = ("cupy", "cupy_backends", "cupyx", "nvidia")
TRAINING_ONLY = ("matplotlib", "tensorboard")


def without(packages: tuple[str, ...], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m PACKAGE ...` where some packages cannot be imported."""
    package, *arguments = map(str, words)
    program = f"""
import importlib, importlib.abc, importlib.util, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {packages!r} else found(name, *rest)
sys.exit(importlib.import_module({package!r} + ".__main__").main({arguments!r}))
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_events_are_read_without_dali_and_cupy(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    outbox.append([make_event(1)])
    outbox.close()
    done = without(LINUX_ONLY, "stream", "events", "--outbox", tmp_path / "outbox.db")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[1:4] == ["cam", "started", "fall"]


def test_the_pipeline_says_in_one_sentence_that_dali_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "a.mp4", "libx264", range(40))
    config = write_config(tmp_path, Path("scenes-r2d18-cidc"), {"a": video})
    assert main(["check", "--config", str(config)]) == 0
    monkeypatch.delattr(model.media, "dali_graph", raising=False)
    monkeypatch.delitem(sys.modules, "model.media.dali_graph", raising=False)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    capsys.readouterr()
    assert main(["check", "--config", str(config)]) == 2
    [line] = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert line.startswith("error: frames are prepared by NVIDIA DALI, which cannot be imported")
    assert "published for Linux" in line


@pytest.mark.parametrize(
    "words",
    [
        "evaluate --config configs/scenes-cidc.yaml --checkpoint x --plots {folder}/plots",
        "score --truth x --events x --plot {folder}/plot.png",
    ],
)
def test_training_names_the_extra_before_it_starts(words: str, tmp_path: Path) -> None:
    done = without(TRAINING_ONLY, "train", *words.format(folder=tmp_path).split())
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("pip install 'cidc-stream[train]' adds it")
    assert not list(tmp_path.iterdir())
