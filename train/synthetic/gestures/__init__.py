"""Draws hands that make gestures before a camera, as labelled videos."""

from train.synthetic.gestures.labels import FLIPS, GESTURES, REVERSALS
from train.synthetic.gestures.script import gesture_script

__all__ = ["FLIPS", "GESTURES", "REVERSALS", "gesture_script"]
