"""Reads class names from a file, or those that ship with the package by their name."""

from __future__ import annotations

from pathlib import Path

from configs import CheckpointError, clean_label, is_file, lines_of, read_text

__all__ = ["LABELS_HELP", "read_labels", "shipped_labels"]

LABELS_HELP = (
    "class names: a file with one per line, in the order of the logits, or kinetics400 for the"
    " names that ship"
)
_FOLDER = Path(__file__).parents[1] / "labels"


def shipped_labels() -> tuple[str, ...]:
    """Return the names of the lists that ship."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.txt")))


def read_labels(labels: Path) -> tuple[str, ...]:
    """Read class names from a file, or a list that ships.

    Raises:
        CheckpointError: there is neither a file nor a list of this name, or it is not text.
    """
    if str(labels) in shipped_labels():
        labels = _FOLDER / f"{labels}.txt"
    elif not is_file(labels):
        raise CheckpointError(
            f"--labels {labels}: there is no such file; lists that ship:"
            f" {', '.join(shipped_labels())}"
        )
    lines = lines_of(read_text(labels, "--labels", CheckpointError))
    return tuple(filter(None, map(clean_label, lines)))
