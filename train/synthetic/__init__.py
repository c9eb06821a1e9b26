"""Generates labelled videos of people whose actions differ only in the order of the frames."""

from train.synthetic.actions import ACTIONS, BACKGROUND, LABELS, PAIRS
from train.synthetic.write import ScenesOptions, write_scenes

__all__ = ["ACTIONS", "BACKGROUND", "LABELS", "PAIRS", "ScenesOptions", "write_scenes"]
