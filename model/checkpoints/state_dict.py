"""Read the tensors of public checkpoint files without executing code from them.

Pickle files are read with `weights_only`; a file that cannot be read in this way raises an error.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import CheckpointError
from model.checkpoints.weights import read_safetensors

__all__ = ["read_checkpoint"]

# Training scripts store the state dict under one of these keys, and add these prefixes to names.
_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")
_PREFIXES = ("module.", "model.")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file; remove wrappers that training scripts add.

    Args:
        path: path of a `.pth`, `.pt`, `.pyth` or `.safetensors` file.

    Raises:
        CheckpointError: the file is missing or damaged, has no tensors, or loading it could execute
            code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}")
    try:
        with warnings.catch_warnings():
            # PyTorch warns about unusual pickles; such files raise an error below.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and loading it could run code"
            f" ({_first_line(error)}); save its state dict"
        ) from None
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({_first_line(error)})"
        ) from None
    return _without_prefixes(_tensors(_unwrapped(content), path))


def _unwrapped(content: Any) -> Any:
    for _ in _WRAPPERS:
        if not isinstance(content, dict):
            return content
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if not inner:
            return content
        content = inner[0]
    return content


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    values = content if isinstance(content, dict) else {}
    state = {str(key): value for key, value in values.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path} holds no state dict (a dictionary of names to tensors)")
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized:
            raise CheckpointError(
                f"{path}: {key} is a sparse or quantised tensor; only plain ones can be imported"
            )
    return state


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["empty"])[0]
