"""The moving average of the weights: its formula, and what a run does with it."""

import json
from pathlib import Path

import pytest
import torch

from model import ModelConfig, build_model, load_model
from tests.train.runs import StopAt, steps_of
from train.config import TrainConfig
from train.engine.checkpoint import load_state, save_state
from train.engine.trainer import StoppedError, train
from train.engine.weight_average import WeightAverage
from train.regularisation_config import RegularisationConfig

EVERYTHING = RegularisationConfig(
    average=0.8,
    branch_dropout=0.5,
    label_smoothing=0.1,
    mixup=0.4,
    colour=0.4,
    rotation_degrees=10,
    stretch=0.2,
)


def test_the_average_follows_its_formula() -> None:
    network = build_model(ModelConfig(depth=18, width=8, num_classes=3, cidc=None))
    average = WeightAverage(network, 0.5)
    weights = network.classifier.bias
    values = [1.0, 4.0, -2.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]
    expected = weights[0].item()
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            weights.fill_(value)
        average.update(network, step=step)
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * value
        assert average.network.classifier.bias[0].item() == pytest.approx(expected, rel=1e-5)
    assert not any(each.requires_grad for each in average.network.parameters())


def test_without_decay_the_average_is_the_network() -> None:
    network = build_model(ModelConfig(depth=18, width=8, num_classes=3, cidc=None))
    assert WeightAverage(network, 0.0).network is network


def test_a_state_holds_the_average_and_an_old_one_starts_it(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    one, average, other, loaded = (torch.nn.Linear(2, 2) for _ in range(4))
    optimiser = torch.optim.SGD(one.parameters(), lr=0.1)
    save_state(path, one, optimiser, {}, average=average)
    load_state(path, other, torch.optim.SGD(other.parameters(), lr=0.1), average=loaded)
    assert torch.equal(loaded.weight, average.weight)
    assert torch.equal(other.weight, one.weight)
    save_state(path, one, optimiser, {})
    load_state(path, other, torch.optim.SGD(other.parameters(), lr=0.1), average=loaded)
    assert torch.equal(loaded.weight, one.weight)


@pytest.mark.slow
def test_a_run_with_every_measure_goes_on_bit_for_bit_and_writes_the_average(
    config: TrainConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    data = config.data.model_copy(update={"speed_min": 0.7, "speed_max": 1.5})
    optimiser = config.optimiser.model_copy(update={"schedule": "cosine", "backbone_rate": 0.5})
    config = config.model_copy(
        update={"regularisation": EVERYTHING, "data": data, "optimiser": optimiser}
    )
    train(config, quiet=True)
    parts = config.model_copy(update={"out": tmp_path / "parts"})
    with pytest.raises(StoppedError):
        train(parts, quiet=True, stop=StopAt(4))
    train(parts, resume=True, quiet=True)
    assert steps_of(parts.out) == steps_of(config.out)
    written, resumed = (
        load_model(run.out / "model.safetensors").state_dict() for run in (config, parts)
    )
    assert all(torch.equal(value, resumed[name]) for name, value in written.items())
    last = build_model(config.model)
    average = build_model(config.model)
    sgd = torch.optim.SGD(last.parameters(), lr=0.1)
    load_state(config.out / "last.safetensors", last, sgd, average=average)
    assert all(torch.equal(value, written[name]) for name, value in average.state_dict().items())
    assert not torch.equal(last.classifier.weight, average.classifier.weight)
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == config.optimiser.epochs
