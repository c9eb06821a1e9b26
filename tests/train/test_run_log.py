"""What a run prints and writes: lines that people read, files that programs read."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from train.config import TrainConfig
from train.engine.run_log import epoch_line, logging_to, write_json


@pytest.mark.parametrize(
    ("validation", "middle"),
    [
        ({"top1": 0.25, "top5": 0.75}, "top-5 0.7500;"),
        (
            {"top1": 0.25, "top5": 0.75, "actions_top1": 0.5, "per_class": {"握手": 1.0}},
            "top-5 0.7500, top-1 of actions 0.5000;",
        ),
    ],
)
def test_an_epoch_is_one_readable_line(validation: dict[str, object], middle: str) -> None:
    facts = {"loss": 2.5, "top1": 0.125, "clips_per_second": 11.26, "wait_share": 0.04}
    assert epoch_line(3, 20, facts, validation) == (
        f"epoch 3 of 20: loss 2.5000, top-1 0.1250; validation top-1 0.2500, {middle}"
        " 11.3 clips/s, waiting 4%"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{"COLUMNS": "20"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=str,
)
def test_without_a_terminal_an_epoch_is_one_line(
    config: TrainConfig, tmp_path: Path, environment: dict[str, str]
) -> None:
    """No JSON, no progress bar, no wrapped line, and labels that no ASCII terminal can show."""
    old = "sit_down"
    labels = tuple("Händeschütteln" if label == old else label for label in config.data.labels)
    manifest = tmp_path / "manifest.csv"
    text = config.data.train.read_text(encoding="utf-8")
    folder = config.data.train.parent
    rows = [line.rsplit(",", 1) for line in text.splitlines()[1:]]
    lines = [
        f"{folder / path},{'Händeschütteln' if label == old else label}" for path, label in rows
    ]
    manifest.write_text("\n".join(["path,label", *lines, ""]), encoding="utf-8")
    data = {"labels": labels, "train": manifest, "validation": manifest}
    file = tmp_path / "config.yaml"
    wanted = config.model_copy(update={"data": config.data.model_copy(update=data)})
    file.write_text(yaml.safe_dump(json.loads(wanted.model_dump_json())), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "train", "--config", str(file)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log, brace, summary = done.stdout.decode().partition("{")
    epochs = [line for line in log.splitlines() if "epoch" in line]
    assert len(epochs) == 2
    for number, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf"20\S+Z INFO     epoch {number} of 2: loss \d.*, waiting \d+%", line
        ), line
    assert "Händeschütteln" in json.loads(brace + summary)["per_class"]
    others = [line for line in log.splitlines() if not re.match(r"20\S+Z (INFO|WARNING)", line)]
    assert others == []
    assert "epoch 2 of 2: loss" in (config.out / "log.txt").read_text(encoding="utf-8")


def test_names_that_are_not_utf8_are_escaped_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist cannot send captured records with such names.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    write_json(tmp_path / "x.json", {"a": "\udcff 握手"})
    assert "握手" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"a": "\udcff 握手"}
    with logging_to(tmp_path / "log.txt"):
        logging.getLogger("train").info("left out: %s", "\udcff.mp4")
    assert r"left out: \udcff.mp4" in (tmp_path / "log.txt").read_text(encoding="utf-8")
