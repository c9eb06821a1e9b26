"""Generates labelled videos of people whose actions differ only in the order of the frames."""

from train.synthetic.actions import ACTIONS, ALL_LABELS, BACKGROUND, INTERACTIONS, LABELS, PAIRS
from train.synthetic.write import ScenesOptions, write_scenes

__all__ = [
    "ACTIONS",
    "ALL_LABELS",
    "BACKGROUND",
    "INTERACTIONS",
    "LABELS",
    "PAIRS",
    "ScenesOptions",
    "write_scenes",
]
