"""Saves and loads the whole state of a run after a step, as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs import CheckpointError, quoted
from model.checkpoints.weights import ModelSpec, read_safetensors, write_safetensors
from train.config import TrainConfig

__all__ = ["load_state", "save_state", "spec_of"]

_KEY = "cidc-train"
_OPTIMISER_KEYS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")


def spec_of(config: TrainConfig, temperature: float) -> ModelSpec:
    """Return the description that a run writes into its weights files."""
    data = config.data
    return ModelSpec(
        name=config.name,
        model=config.model,
        labels=data.labels,
        background=data.background,
        fps=data.fps,
        preprocess=config.preprocess,
        temperature=temperature,
    )


def save_state(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    average: nn.Module | None = None,
) -> None:
    """Save weights, their average, optimiser state, and `facts`, which may be any JSON value.

    `average` is None, or the network itself, if no average is kept.

    The file is replaced as a whole: a reader sees the old or the new state, never a part of it.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    if average not in (None, network):
        averages = average.state_dict().items()
        tensors |= {f"average.{name}": value.contiguous() for name, value in averages}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value.contiguous()
    write_safetensors(path, tensors, {_KEY: json.dumps(facts)})


def load_state(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    average: nn.Module | None = None,
) -> dict[str, Any]:
    """Load a saved state into network, its average and optimiser; return the saved `facts`.

    If the state holds no average, the average starts from the saved weights.

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
    weights = _with_prefix(tensors, "model.")
    try:
        network.load_state_dict(weights)
        if average not in (None, network):
            average.load_state_dict(_with_prefix(tensors, "average.") or weights)
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


def _with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names start with a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
