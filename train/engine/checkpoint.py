"""Saves and loads the whole state of a run after a step, as one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs import CheckpointError, quoted
from model.checkpoints.weights import read_safetensors, write_safetensors

__all__ = ["load_state", "save_state"]

_KEY = "cidc-train"
_OPTIMISER_KEYS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")


def save_state(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Save weights and optimiser state, and `facts`, which may be any JSON value.

    The file is replaced as a whole: a reader sees the old or the new state, never a part of it.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value.contiguous()
    write_safetensors(path, tensors, {_KEY: json.dumps(facts)})


def load_state(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a saved state into network and optimiser; return the saved `facts`.

    Raises:
        CheckpointError: the file is missing or damaged, or belongs to another network.
    """
    tensors, metadata = read_safetensors(path)
    try:
        facts: dict[str, Any] = json.loads(metadata[_KEY])
    except (KeyError, ValueError, RecursionError):
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
        raise CheckpointError(f"{path} belongs to another network: {quoted(error)}") from None
    for name, parameter in network.named_parameters():
        for key in _OPTIMISER_KEYS:
            saved = tensors.get(f"{key}.{name}")
            if saved is None:
                continue
            if saved.shape != (torch.Size() if key == "step" else parameter.shape):
                raise CheckpointError(
                    f"{path} belongs to another network: {key}.{name} has shape"
                    f" {tuple(saved.shape)}, but the parameter has {tuple(parameter.shape)}"
                )
            # A tensor with the parameter's shape gets the parameter's memory layout.
            like = saved if key == "step" else parameter
            optimiser.state[parameter][key] = torch.empty_like(like).copy_(saved)
    return facts
