"""The state of a run between two steps: weights, optimiser, position, running figures; one
safetensors file.
"""

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
    """Write the state atomically; `facts` is any JSON value."""
    tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value.contiguous()
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
        raise CheckpointError(f"{path} is the state of another network: {error}") from None
    for name, parameter in network.named_parameters():
        for key in _OPTIMISER_KEYS:
            saved = tensors.get(f"{key}.{name}")
            if saved is not None:
                layout = (
                    torch.empty_like(parameter)
                    if saved.shape == parameter.shape
                    else torch.empty_like(saved)
                )
                optimiser.state[parameter][key] = layout.copy_(saved)
    return facts
