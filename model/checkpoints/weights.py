"""Weights as safetensors, with everything needed to use them inside. Loading never executes code.

The file's metadata holds one JSON document under the key `cidc`: format, model configuration, label
names, frame rate and preprocessing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from configs import CheckpointError, StrictModel
from model.media.preprocess import PreprocessConfig
from model.network import ActionNetwork, ModelConfig, build_model

__all__ = ["ModelSpec", "load_model", "read_spec", "save_model", "write_safetensors"]

_KEY = "cidc"


class ModelSpec(StrictModel):
    """What a weights file says about itself."""

    format: Literal["cidc-model/2"] = Field(
        "cidc-model/2", description="version of this description"
    )
    name: str = Field(
        description="short name, reported in every event", min_length=1, max_length=100
    )
    model: ModelConfig = Field(description="the network")
    labels: tuple[str, ...] = Field(description="class names in the order of the logits")
    background: str | None = Field(None, description="the label that stands for no action")
    fps: float = Field(15.0, gt=0, description="frames per second of a clip")
    preprocess: PreprocessConfig = Field(description="the picture the network sees")

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        if len(self.labels) != self.model.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.model.num_classes} classes")
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError("labels must be different, non-empty names")
        if self.background is not None and self.background not in self.labels:
            raise ValueError(f"background {self.background!r} is not one of the labels")
        return self


def save_model(
    network: ActionNetwork, path: str | Path, *, spec: ModelSpec, dtype: torch.dtype = torch.float32
) -> None:
    """Write weights and description, atomically. `dtype` applies to floating-point weights.

    Raises:
        CheckpointError: the description belongs to another network, or the file cannot be written.
    """
    if network.folded:
        raise CheckpointError("a folded network cannot be saved; load it again and save that")
    if spec.model != network.config:
        raise CheckpointError(
            f"the description is of another network: {spec.model!r} is not {network.config!r}"
        )
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    write_safetensors(Path(path), tensors, {_KEY: spec.model_dump_json()})


def load_model(path: str | Path) -> ActionNetwork:
    """Read a network in float32, on the CPU, in evaluation mode; its `spec` attribute is the file's
    description.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or does not fit its own
            description.
    """
    spec = read_spec(path)
    network = build_model(spec.model)
    tensors = _read_tensors(Path(path))
    expected = network.state_dict()
    _check_tensors(Path(path), expected, tensors)
    network.load_state_dict(
        {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}
    )
    network.spec = spec
    return network.eval()


def read_spec(path: str | Path) -> ModelSpec:
    """Only the description inside a weights file.

    Raises:
        CheckpointError: as `load_model`.
    """
    path = Path(path)
    text = (_open(path).metadata() or {}).get(_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} holds weights without a description; make it with `python -m train`"
        )
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "description"
        raise CheckpointError(
            f"{path}: {place}: {first['msg']}; it was written by another version or is damaged"
        ) from None


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write a safetensors file so that no reader ever sees half of it.

    Raises:
        CheckpointError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), str(partial), metadata=metadata)
        partial.chmod(0o644)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return _read_tensors(path), dict(_open(path).metadata() or {})


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"weights file not found: {path}")
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}); get it again or train it anew"
        ) from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    file = _open(path)
    try:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); get it again or train it anew"
        ) from error


def _check_tensors(
    path: Path, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]
) -> None:
    problems = [f"missing {name}" for name in expected.keys() - found.keys()]
    problems += [f"unknown {name}" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if expected[name].shape != found[name].shape:
            problems.append(
                f"{name} has shape {tuple(found[name].shape)}, expected"
                f" {tuple(expected[name].shape)}"
            )
        elif not torch.isfinite(found[name]).all():
            problems.append(f"{name} holds values that are not finite")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + ("; ..." if len(problems) > 5 else "")
        raise CheckpointError(f"{path} does not fit the network it describes: {shown}")
