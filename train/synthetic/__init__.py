"""Generated, labelled video: people do actions that only the order of time tells apart."""

from train.synthetic.actions import ACTIONS, BACKGROUND, LABELS, PAIRS
from train.synthetic.write import ScenesOptions, write_scenes

__all__ = ["ACTIONS", "BACKGROUND", "LABELS", "PAIRS", "ScenesOptions", "write_scenes"]
