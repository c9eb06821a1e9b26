"""Finds how mirroring a clip changes its label: `left` becomes `right`, and the reverse."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["mirrored_labels", "swap_sides"]

_OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDE = re.compile(r"(?<![A-Za-z])(left|right|Left|Right)(?![A-Za-z])")


def swap_sides(label: str) -> str:
    """Return the label of the mirrored clip: the words left and right are exchanged."""
    return _SIDE.sub(lambda match: _OTHER_SIDE[match[1]], label)


def mirrored_labels(labels: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find the labels that contain the word left or right.

    Returns:
        A mapping from each of these labels to the label of the mirrored clip, and the labels whose
        mirrored label is not in `labels`.
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
