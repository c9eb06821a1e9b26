"""The state of a run between two epochs: weights, momentum, position, history; one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs import CheckpointError
from model.weights import read_safetensors, write_safetensors

__all__ = ["load_state", "save_state"]

_KEY = "cidc-train"


def save_state(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Write the state atomically; `facts` is any JSON value."""
    tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.contiguous()
    write_safetensors(path, tensors, {_KEY: json.dumps(facts)})


def load_state(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a saved state back; returns its facts.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    tensors, metadata = read_safetensors(path)
    try:
        facts: dict[str, Any] = json.loads(metadata[_KEY])
    except (KeyError, json.JSONDecodeError):
        raise CheckpointError(f"{path} is not a training state; resume from the run's own last.safetensors") from None
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is the state of another network: {error}") from None
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in tensors:
            momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
            optimiser.state[parameter]["momentum_buffer"] = momentum
    return facts
