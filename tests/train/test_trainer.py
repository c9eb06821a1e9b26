"""The training loop: what it learns, and what it writes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml

from model import ActionNetwork, build_model
from tests.train.runs import steps_of
from train.__main__ import main
from train.config import OptimiserConfig, TrainConfig
from train.distributed import Ranks
from train.engine.step import Stepper, learning_rate_at
from train.engine.trainer import train


@pytest.mark.slow
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm keeps its statistics here, as it would otherwise see one part at a time."""
    monkeypatch.setattr(
        ActionNetwork, "train", lambda self, mode=True: torch.nn.Module.train(self, False)
    )
    found = []
    for parts in (1, 2, 4):
        optimiser = config.optimiser.model_copy(
            update={"accumulate": parts, "epochs": 1, "learning_rate": 1e-3}
        )
        run = config.model_copy(update={"out": config.out / str(parts), "optimiser": optimiser})
        train(run, quiet=True)
        found.append([line["loss"] for line in steps_of(run.out)])
    assert found[0][0] - found[0][1] > 0.01  # what a wrong gradient would change
    for losses in found[1:]:
        assert losses == pytest.approx(found[0], rel=1e-4)


@pytest.mark.slow
def test_the_folder_of_a_run_has_its_logs_and_the_wanted_weights(config: TrainConfig) -> None:
    train(config.model_copy(update={"keep_every": 1, "activation_checkpointing": True}), quiet=True)
    assert {"config.json", "environment.json", "log.txt", "metrics.jsonl", "steps.jsonl"} <= {
        path.name for path in config.out.iterdir()
    }
    assert "16 training and 16 validation videos" in (config.out / "log.txt").read_text()
    assert (
        json.loads((config.out / "environment.json").read_text())["packages"]["torch"]
        == torch.__version__
    )
    names = {path.name for path in config.out.glob("*.safetensors")}
    assert names == {
        "last.safetensors",
        "model.safetensors",
        "best.safetensors",
        "epoch-0001.safetensors",
        "epoch-0002.safetensors",
    }


@pytest.mark.slow
def test_training_memorises_a_few_clips(config: TrainConfig, scenes: Path, tmp_path: Path) -> None:
    lines = [
        f"{scenes}/clips/{label}/0000.mp4,{label}\n"
        for label in ("fall", "walk_left", "background")
    ]
    (tmp_path / "m.csv").write_text("".join(lines * 2))
    data = config.data.model_copy(
        update={"train": tmp_path / "m.csv", "validation": tmp_path / "m.csv", "flip": False}
    )
    model = config.model.model_copy(update={"dropout": 0.0})
    optimiser = OptimiserConfig(epochs=12, batch=6, learning_rate=0.05, milestones=())
    train(
        config.model_copy(update={"data": data, "model": model, "optimiser": optimiser}), quiet=True
    )
    losses = [
        json.loads(line)["loss"] for line in (config.out / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_the_learning_rate_follows_the_paper() -> None:
    paper = OptimiserConfig()
    assert [round(learning_rate_at(epoch, paper), 8) for epoch in (0, 39.9, 40, 79.9, 80, 99)] == [
        0.01,
        0.01,
        0.001,
        0.001,
        0.0001,
        0.0001,
    ]
    warm = OptimiserConfig(warmup_epochs=2.0)
    assert learning_rate_at(1.0, warm) == pytest.approx(0.005)
    assert learning_rate_at(0, OptimiserConfig(batch=8, base_batch=32)) == pytest.approx(0.0025)


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    optimiser = OptimiserConfig(schedule="cosine", epochs=12, warmup_epochs=1, learning_rate=0.4)
    found = [learning_rate_at(epoch, optimiser) for epoch in (4, 6, 8, 12)]
    assert found == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert learning_rate_at(0.5, optimiser) == pytest.approx(0.2, rel=0.01)


def test_the_backbone_learns_at_its_own_rate(config: TrainConfig) -> None:
    optimiser = config.optimiser.model_copy(
        update={"backbone_rate": 0.25, "momentum": 0.0, "weight_decay": 0.0}
    )
    run = config.model_copy(update={"optimiser": optimiser})
    network = build_model(config.model)
    before = {name: value.clone() for name, value in network.named_parameters()}
    options = {"device": torch.device("cpu"), "dtype": torch.float32, "ranks": Ranks()}
    stepper = Stepper(network, run, **options)  # type: ignore[arg-type]
    clips = torch.randint(0, 255, (4, 32, 48, 80, 3), dtype=torch.uint8)
    stepper(clips, torch.arange(4), rate=0.1, position=(0, 0))
    for name, weights in network.named_parameters():
        assert weights.grad is not None
        rate = 0.025 if name.startswith("backbone.") else 0.1
        torch.testing.assert_close(weights, before[name] - rate * weights.grad)


@pytest.mark.slow
def test_training_goes_on_without_tensorboard(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name == "tensorboard" else found(name, package),
    )
    short = config.optimiser.model_copy(update={"epochs": 1})
    train(config.model_copy(update={"optimiser": short}), quiet=True)
    assert (config.out / "model.safetensors").is_file()
    assert not (config.out / "tensorboard").exists()
    assert caplog.text.count("pip install 'cidc-stream[train]' adds it") == 1


@pytest.mark.slow
def test_figures_for_tensorboard_and_pictures(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config, quiet=True)
    train(
        config.model_copy(update={"optimiser": config.optimiser.model_copy(update={"epochs": 3})}),
        resume=True,
        quiet=True,
    )
    board = EventAccumulator(str(config.out / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == list(range(1, 13))
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(
        [step["loss"] for step in steps_of(config.out)], rel=1e-5
    )
    assert [event.step for event in board.Scalars("validation/top1")] == [4, 8, 12]
    epochs = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    waiting = [event.value for event in board.Scalars("epoch/wait_share")]
    assert waiting == pytest.approx([epoch["wait_share"] for epoch in epochs])
    assert all(0 < fraction < 1 for fraction in waiting)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    weights = str(config.out / "model.safetensors")
    arguments = [
        "evaluate",
        "--config",
        str(path),
        "--checkpoint",
        weights,
        "--versus",
        str(config.out / "best.safetensors"),
    ]
    assert main([*arguments, "--plots", str(tmp_path / "plots")]) == 0
    for name in ("confusion.png", "versus.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
