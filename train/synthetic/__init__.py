"""Generated, labelled video: articulated people doing actions that only the order of time tells
apart.
"""

from train.synthetic.actions import ACTIONS, BACKGROUND, LABELS, PAIRS
from train.synthetic.write import ScenesPlan, write_scenes

__all__ = ["ACTIONS", "BACKGROUND", "LABELS", "PAIRS", "ScenesPlan", "write_scenes"]
