"""Save and load weights with their description as safetensors files.

The description is a `ModelSpec` as JSON in the file's metadata, under the key `cidc`. Loading a
file never executes code from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from configs import CheckpointError, quoted, replaced_file
from model.checkpoints.shipped import find_weights, shipped_names
from model.network import ActionNetwork, build_model, shapes_of
from model.spec import ModelSpec

__all__ = [
    "ModelSpec",
    "load_model",
    "read_safetensors",
    "read_spec",
    "replace_spec",
    "save_model",
    "write_safetensors",
]

_KEY = "cidc"
_MAX_HEADER_BYTES = 16 << 20  # names, shapes and labels; a tensor needs about 100 bytes
# Types of a file's numbers: floating-point ones, and all others.
_FLOATS = ("F64", "F32", "F16", "BF16")
_INTEGERS = ("BOOL", "U8", "I8", "I16", "I32", "I64")


def save_model(
    network: ActionNetwork, path: str | Path, *, spec: ModelSpec, dtype: torch.dtype = torch.float32
) -> None:
    """Write weights and their description; an existing file is replaced in one step.

    Args:
        network: network to save; it must not be folded.
        path: path of the file to write.
        spec: description of the network.
        dtype: floating-point weights are saved in this type.

    Raises:
        CheckpointError: the network is folded, the description belongs to another network, or the
            file cannot be written.
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
    write_safetensors(Path(path), tensors, {_KEY: spec.to_json()})


def load_model(path: str | Path) -> ActionNetwork:
    """Read a network from a weights file, given as a path or as the name of weights that ship.

    The network is in float32, on the CPU and in evaluation mode. Its attribute `spec` is the
    description in the file.

    Raises:
        CheckpointError: the file is missing or damaged, has another format, or does not match its
            description.
    """
    path = Path(path)
    spec = read_spec(path)
    expected = shapes_of(spec.model)
    # A small file can describe a huge network, so the network is built after this check.
    _check_shapes(path, expected)
    tensors = {
        name: tensor.to(expected[name].dtype) for name, tensor in _read_tensors(path).items()
    }
    _check_values(path, tensors)
    network = build_model(spec.model)
    network.load_state_dict(tensors)
    network.spec = spec
    return network.eval()


def read_spec(path: str | Path) -> ModelSpec:
    """Read only the description in a weights file, which `load_model` would accept.

    Raises:
        CheckpointError: the file is missing or damaged, or has no valid description.
    """
    path = Path(path)
    text = (_open(path).metadata() or {}).get(_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} holds weights without a description; write it with `python -m train`"
        )
    try:
        return ModelSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "description"
        raise CheckpointError(
            f"{path}: {place}: {first['msg']}; it was written by another version or is damaged"
        ) from None


def replace_spec(source: str | Path, target: str | Path, *, spec: ModelSpec) -> None:
    """Copy a weights file with another description; its tensors stay bit for bit the same.

    `target` may be the same file as `source`.

    Raises:
        CheckpointError: a file cannot be read or written, or the description belongs to another
            network.
    """
    if (found := read_spec(source)).model != spec.model:
        raise CheckpointError(
            f"the description is of another network: {spec.model!r} is not {found.model!r}"
        )
    tensors, metadata = read_safetensors(Path(source))
    write_safetensors(Path(target), tensors, metadata | {_KEY: spec.to_json()})


def write_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write a safetensors file in one step, so that no reader sees an incomplete file.

    A power failure during the write leaves either the old or the new file.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        with replaced_file(path, mode=0o644, durable=True) as partial:
            save_file(dict(tensors), str(partial), metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read all tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return _read_tensors(path), dict(_open(path).metadata() or {})


def _open(path: Path) -> Any:
    found = find_weights(path)
    if found is None:
        raise CheckpointError(
            f"weights file not found: {path}; give a path, or a name that ships:"
            f" {', '.join(shipped_names()) or 'none'}"
        )
    try:
        with found.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > _MAX_HEADER_BYTES:
            raise ValueError(f"its header has more than {_MAX_HEADER_BYTES >> 20} MB")
        return safe_open(str(found), framework="pt")
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}); get it or train it again"
        ) from error


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    file = _open(path)
    try:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); get it or train it again") from error


def _check_shapes(path: Path, expected: Mapping[str, torch.Tensor]) -> None:
    file = _open(path)
    found = set(file.keys())
    problems = [f"missing {name}" for name in expected.keys() - found]
    problems += [f"unknown {quoted(name)}" for name in found - expected.keys()]
    for name in expected.keys() & found:
        stored = file.get_slice(name)
        shape, kind = tuple(stored.get_shape()), stored.get_dtype()
        like = expected[name]
        if shape != tuple(like.shape):
            problems.append(f"{name} has shape {shape}, expected {tuple(like.shape)}")
        elif kind not in (_FLOATS if like.is_floating_point() else _INTEGERS):
            problems.append(f"{name} holds {kind}, expected {like.dtype}")
    _raise_problems(path, problems)


def _check_values(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    _raise_problems(
        path,
        [
            f"{name} holds values that are not finite"
            for name, tensor in tensors.items()
            if not torch.isfinite(tensor).all()
        ],
    )


def _raise_problems(path: Path, problems: Sequence[str]) -> None:
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + ("; ..." if len(problems) > 5 else "")
        raise CheckpointError(f"{path} does not match the network that it describes: {shown}")
