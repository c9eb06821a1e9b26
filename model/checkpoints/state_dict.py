"""Read the tensors of public checkpoint files without executing code from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from configs import CheckpointError, is_file, quoted
from model.checkpoints.plain_pickle import StoredTensor, UnsafeFileError
from model.checkpoints.torch_file import torch_file
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
    if not is_file(path):
        raise CheckpointError(f"checkpoint not found: {path}")
    try:
        with torch_file(path) as content:
            return _without_prefixes(_tensors(_unwrapped(content), path))
    except CheckpointError:
        raise
    except UnsafeFileError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and loading it could run code ({error});"
            " save its state dict"
        ) from None
    except Exception as error:
        # A damaged file can raise any exception; most of them say nothing about it.
        reason = _first_line(error) if isinstance(error, ValueError) else "it is damaged"
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason})") from None


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
    stored = {str(key): value for key, value in values.items() if isinstance(value, StoredTensor)}
    if not stored:
        raise CheckpointError(f"{path} holds no state dict (a dictionary of names to tensors)")
    state = {}
    for key, value in stored.items():
        try:
            state[key] = value.read()
        except ValueError as error:
            raise CheckpointError(f"{path}: {quoted(key)} {error}") from None
    return state


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["empty"])[0]
