"""Finds the weights that ship with this package by their name."""

from __future__ import annotations

from pathlib import Path

from configs import is_file

__all__ = ["WEIGHTS_HELP", "find_weights", "shipped_names"]

WEIGHTS_HELP = "weights file (safetensors), or the name of weights that ship with the package"
_FOLDER = Path(__file__).parents[1] / "pretrained"


def shipped_names() -> tuple[str, ...]:
    """Return the names of all weights that ship."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.safetensors")))


def find_weights(weights: str | Path) -> Path | None:
    """Return the file of weights given as a path or as a name that ships; None if there is none."""
    if str(weights) in shipped_names():
        return _FOLDER / f"{weights}.safetensors"
    return Path(weights) if is_file(weights) else None
