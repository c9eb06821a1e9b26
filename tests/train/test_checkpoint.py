"""The saved state of a run: it comes back the same, and a damaged one is one clear error."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from configs import CheckpointError
from train.engine.checkpoint import load_state, save_state
from train.engine.run_state import RunState

KINDS = ["sgd", "adamw"]
FACTS = RunState(epoch=1, step=2, best_top1=0.5).facts()


def stepped(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a small network and its optimiser after one step."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimiser: torch.optim.Optimizer = (
        torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        if kind == "sgd"
        else torch.optim.AdamW(network.parameters(), lr=0.1)
    )
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return network, optimiser


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    network, optimiser = stepped(kind)
    save_state(tmp_path / "last.safetensors", network, optimiser, FACTS)
    other = nn.Linear(3, 2)
    loaded = type(optimiser)(other.parameters(), lr=0.1)  # type: ignore[call-arg]
    facts = load_state(tmp_path / "last.safetensors", other, loaded)
    assert RunState.from_facts(facts) == RunState(epoch=1, step=2, best_top1=0.5)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        for key, value in optimiser.state[one].items():
            assert torch.equal(value, loaded.state[two][key])


@pytest.mark.parametrize("kind", KINDS)
def test_optimiser_state_of_another_shape_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_state(path, *stepped(kind), FACTS)
    tensors = load_file(path)
    key = "momentum_buffer.weight" if kind == "sgd" else "exp_avg.weight"
    for shape in ((0,), (1,), (3, 2), (10**6, 0)):
        save_file(tensors | {key: torch.zeros(shape)}, path, {"cidc-train": json.dumps(FACTS)})
        with pytest.raises(CheckpointError, match=rf"another network: {key} has shape"):
            load_state(path, *stepped(kind))
    if kind == "adamw":
        save_file(tensors | {"step.bias": torch.ones(9)}, path, {"cidc-train": json.dumps(FACTS)})
        with pytest.raises(CheckpointError, match=r"another network: step\.bias has shape \(9,\)"):
            load_state(path, *stepped(kind))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000, ""])
def test_facts_that_are_not_json_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    network, optimiser = stepped("sgd")
    save_state(path, network, optimiser, FACTS)
    save_file(load_file(path), path, {"cidc-train": text})
    with pytest.raises(CheckpointError, match="is not a training state"):
        load_state(path, network, optimiser)


@pytest.mark.parametrize(
    "facts",
    [
        *([], 7, None, {}, FACTS | {"epoch": -1}, FACTS | {"step": float("inf")}),
        *(FACTS | {"best": float("nan")}, FACTS | {"epoch": "x"}, FACTS | {"epoch": [1]}),
        *(FACTS | {"meter": None}, FACTS | {"meter": {"lost": 1}}, FACTS | {"meter": {"loss": []}}),
        FACTS | {"meter": {"loss": float("nan")}},
    ],
    ids=range(13),
)
def test_facts_of_another_kind_are_refused(facts: Any) -> None:
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged .*start the run"):
        RunState.from_facts(facts, name="last.safetensors")
