"""Runs that are stopped or killed go on bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from model import load_model
from tests import ROOT
from tests.train.runs import StopAt, steps_of
from train.config import TrainConfig
from train.engine.trainer import StoppedError, train


@pytest.mark.slow
def test_a_resumed_run_gives_the_losses_of_one_that_was_not(
    config: TrainConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    train(config, quiet=True)
    whole = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    parts = config.model_copy(update={"out": tmp_path / "parts"})
    first = parts.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "milestones": (0.8, 1.6)})
        }
    )
    train(first, quiet=True)
    train(parts, resume=True, quiet=True)
    resumed = [json.loads(line) for line in (parts.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in resumed] == [line["loss"] for line in whole]
    one = load_model(config.out / "model.safetensors")
    other = load_model(parts.out / "model.safetensors")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.slow
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(config: TrainConfig, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(config, quiet=True)
    parts = config.model_copy(update={"out": tmp_path / "parts"})
    for number, asked in enumerate((0, 3, 0)):  # after 1, 5 and 6 of 8 steps
        with pytest.raises(StoppedError, match="--resume"):
            train(parts, resume=number > 0, quiet=True, stop=StopAt(asked))
    train(parts, resume=True, quiet=True)
    assert steps_of(parts.out) == steps_of(config.out)
    assert len(steps_of(config.out)) == 8
    whole, resumed = (
        (run.out / "metrics.jsonl").read_text().splitlines() for run in (config, parts)
    )
    for one, other in zip(whole, resumed, strict=True):
        for name in ("epoch", "loss", "top1", "validation"):
            assert json.loads(one)[name] == json.loads(other)[name]
    for name in ("model.safetensors", "best.safetensors"):
        states = [load_model(run.out / name).state_dict() for run in (config, parts)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(
    config: TrainConfig, tmp_path: Path
) -> None:
    """A run that saves every step is killed twice, then stopped by SIGTERM, which saves as well."""
    base = config.model_copy(update={"checkpoint_minutes": 0.0})
    file = tmp_path / "config.yaml"

    def start(out: Path, *options: str) -> subprocess.Popen[str]:
        file.write_text(
            yaml.safe_dump(json.loads(base.model_copy(update={"out": out}).model_dump_json()))
        )
        command = [sys.executable, "-m", "train", "--config", str(file), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    whole = start(tmp_path / "whole")
    text, _ = whole.communicate(timeout=200)
    assert whole.returncode == 0, text
    killed = tmp_path / "killed"
    for number, (lines, signal_number) in enumerate(
        ((1, signal.SIGKILL), (4, signal.SIGKILL), (5, signal.SIGTERM))
    ):
        process = start(killed, *(["--resume"] if number else []))
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            if (killed / "last.safetensors").is_file() and len(
                (killed / "steps.jsonl").read_text().splitlines()
            ) >= lines:
                break
            time.sleep(0.01)
        process.send_signal(signal_number)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == (-9 if signal_number == signal.SIGKILL else 143), text
    assert "`--resume` goes on there" in text
    process = start(killed, "--resume")
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert steps_of(killed) == steps_of(tmp_path / "whole")
