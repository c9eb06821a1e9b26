"""Two processes that train together against one that sees the same batches."""

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

from configs import ConfigError
from model import ModelConfig, load_model
from tests import ROOT
from tests.train.runs import SMALL_FRAMES, steps_of
from train.config import DataConfig, OptimiserConfig, TrainConfig
from train.data.clip_plan import EvaluationViews
from train.data.clip_store import ClipStore
from train.data.readers import InProcessReader
from train.distributed import Ranks, joined_ranks
from train.engine.trainer import train
from train.evaluation.clip_accuracy import evaluate_network
from train.regularisation_config import RegularisationConfig
from train.synthetic import LABELS


@pytest.fixture
def config(scenes: Path, tmp_path: Path) -> TrainConfig:
    manifest = scenes / "clips/manifest.csv"
    return TrainConfig(
        name="test",
        out=tmp_path / "one",
        precision="float32",
        device="cpu",
        checkpoint_minutes=0.0,
        model=ModelConfig(depth=18, num_classes=len(LABELS), width=8, dropout=0.0),
        preprocess=SMALL_FRAMES,
        data=DataConfig(
            train=manifest,
            validation=manifest,
            labels=LABELS,
            background="background",
            cache=tmp_path / "cache",
            short_side_min=48,
            short_side_max=56,
            flip_labels={"walk_left": "walk_right", "walk_right": "walk_left"},
        ),
        optimiser=OptimiserConfig(epochs=2, batch=8, accumulate=2, learning_rate=0.005),
        regularisation=RegularisationConfig(average=0.5, label_smoothing=0.1),
    )


def torchrun(
    config: TrainConfig, tmp_path: Path, *options: str, processes: int = 2
) -> subprocess.Popen[str]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "train",
        "--config",
        str(path),
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_process_group_is_told_its_gpu(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    taken: list[int] = []
    groups: list[tuple[str, torch.device | None]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda backend, *, timeout, device_id=None: groups.append((backend, device_id)),
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with joined_ranks(device) as ranks:
        assert ranks.local_rank == 1
    expected = ("nccl", torch.device("cuda", 1)) if device == "cuda" else ("gloo", None)
    assert groups == [expected]
    assert taken == ([1] if device == "cuda" else [])


@pytest.mark.slow
def test_two_processes_equal_one(config: TrainConfig, tmp_path: Path) -> None:
    """Losses, weights, running statistics and validation agree, with batches in parts."""
    torch.set_num_threads(1)
    train(config, quiet=True)
    pair = config.model_copy(update={"out": tmp_path / "two"})
    process = torchrun(pair, tmp_path)
    text, _ = process.communicate(timeout=250)
    assert process.returncode == 0, text
    ours = steps_of(pair.out)
    theirs = steps_of(config.out)
    assert len(ours) == 4
    assert [step["loss"] for step in ours] == pytest.approx(
        [step["loss"] for step in theirs], rel=1e-3
    )
    one = load_model(config.out / "model.safetensors").state_dict()
    other = load_model(pair.out / "model.safetensors").state_dict()
    for name, value in one.items():
        torch.testing.assert_close(
            other[name], value, rtol=2e-2, atol=2e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    lines = [
        [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
        for run in (config, pair)
    ]
    assert [line["validation"]["videos"] for line in lines[1]] == [16, 16]
    assert [line["top1"] for line in lines[1]] == pytest.approx(
        [line["top1"] for line in lines[0]], abs=0.13
    )
    assert text.count("; validation top-1 ") == 2  # one line for each epoch, from one process
    assert text.count('"within_pairs_mean"') == 1  # the result, once


@pytest.mark.slow
def test_one_process_asked_to_stop_stops_both_and_any_number_goes_on(
    config: TrainConfig, tmp_path: Path
) -> None:
    run = config.model_copy(
        update={"optimiser": config.optimiser.model_copy(update={"epochs": 40})}
    )
    process = torchrun(run, tmp_path)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (run.out / "last.safetensors").is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    ranks = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGTERM)
    text, _ = process.communicate(timeout=100)
    assert text.count("`--resume` goes on there") == 2, text
    done = len(steps_of(run.out))
    short = run.model_copy(
        update={"optimiser": run.optimiser.model_copy(update={"epochs": done // 2 + 1})}
    )
    train(short, resume=True, quiet=True)
    assert [(step["epoch"], step["step"]) for step in steps_of(run.out)] == [
        (e + 1, s) for e in range(done // 2 + 1) for s in (1, 2)
    ]


def test_parts_of_ranks_cover_everything_once() -> None:
    for size in (1, 2, 3, 7):
        parts = [Ranks(rank, size).part_of(range(10)) for rank in range(size)]
        assert [item for part in parts for item in part] == list(range(10))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_that_does_not_divide_is_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ranks, "part_of", lambda _, items: items)
    monkeypatch.setattr(Ranks, "gather", lambda _, items: items)
    monkeypatch.setattr(Ranks, "wait", lambda _: None)
    with pytest.raises(ConfigError, match=r"at least one whole batch: .* 24, there are 16 videos"):
        train(
            config.model_copy(update={"optimiser": OptimiserConfig(batch=24)}),
            quiet=True,
            ranks=Ranks(0, 2),
        )
    with pytest.raises(
        ConfigError, match=r"optimiser\.batch \(8\) must be a multiple of 3 processes x .* = 6"
    ):
        train(config, quiet=True, ranks=Ranks(0, 3))


def test_a_rank_without_validation_videos_has_no_predictions(tiny_weights: Path) -> None:
    network = load_model(tiny_weights)
    reader = InProcessReader(ClipStore(fps=15, frames=32, short_side=None, cache=None))
    options = {
        "labels": LABELS,
        "background": None,
        "reader": reader,
        "preprocess": SMALL_FRAMES,
        "dtype": torch.float32,
    }
    predictions = evaluate_network(network, [], EvaluationViews(2, 3), **options)  # type: ignore[arg-type]
    assert predictions.probabilities_NK.shape == (0, len(LABELS))
    assert predictions.truth_N.tolist() == []


def test_a_part_of_the_variables_of_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="start with torchrun"), joined_ranks("cpu"):
        pass
