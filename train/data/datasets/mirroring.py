"""What mirroring does to labels: those that name a side turn into one another."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["mirrored_labels", "swap_sides"]

_OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDE = re.compile(r"(?<![A-Za-z])(left|right|Left|Right)(?![A-Za-z])")


def swap_sides(label: str) -> str:
    """Exchange the words left and right: the label of a mirrored clip."""
    return _SIDE.sub(lambda match: _OTHER_SIDE[match[1]], label)


def mirrored_labels(labels: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the labels that name a side.

    Returns:
        Which labels turn into which when a clip is mirrored, and those that have no counterpart.
    """
    known = set(labels)
    pairs = {}
    alone = []
    for label in labels:
        other = swap_sides(label)
        if other == label:
            continue
        if other in known:
            pairs[label] = other
        else:
            alone.append(label)
    return pairs, tuple(alone)
