"""Generated, labelled video: articulated people doing actions that only the order of time tells
apart.
"""

from train.scenes.actions import ACTIONS, BACKGROUND, LABELS, PAIRS
from train.scenes.write import ScenesPlan, write_scenes

__all__ = ["ACTIONS", "BACKGROUND", "LABELS", "PAIRS", "ScenesPlan", "write_scenes"]
