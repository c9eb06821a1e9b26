"""The state of a run between two steps, in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs import CheckpointError
from model.checkpoints.weights import read_safetensors, write_safetensors

__all__ = ["load_state", "save_state"]

_KEY = "cidc-train"
_OPTIMISER_KEYS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")


def save_state(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Write weights and optimiser, and `facts`, which is any JSON value.

    A reader sees the old file or the new one, never a part of it.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value.contiguous()
    write_safetensors(path, tensors, {_KEY: json.dumps(facts)})


def load_state(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a saved state into network and optimiser; return its facts.

    Raises:
        CheckpointError: the file is missing or damaged, or belongs to another network.
    """
    tensors, metadata = read_safetensors(path)
    try:
        facts: dict[str, Any] = json.loads(metadata[_KEY])
    except (KeyError, json.JSONDecodeError):
        raise CheckpointError(
            f"{path} is not a training state; resume from the run's own last.safetensors"
        ) from None
    weights = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} belongs to another network: {error}") from None
    for name, parameter in network.named_parameters():
        for key in _OPTIMISER_KEYS:
            saved = tensors.get(f"{key}.{name}")
            if saved is not None:
                # In the memory layout of the parameter, where it has the parameter's shape.
                like = parameter if saved.shape == parameter.shape else saved
                optimiser.state[parameter][key] = torch.empty_like(like).copy_(saved)
    return facts
