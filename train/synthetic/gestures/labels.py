"""The gestures, and what they become in a mirror and when time runs backwards.

Directions are those of the frame: `swipe_left` moves to the left side of the frame, whichever hand
makes it and wherever the camera is. `push_hand` comes towards the camera, and `zoom_in` moves two
fingers or two hands apart.
"""

from __future__ import annotations

__all__ = ["FLIPS", "GESTURES", "REVERSALS"]

# gesture: (the gesture in a mirror, the gesture backwards in time)
_FACTS = {
    "swipe_left": ("swipe_right", "swipe_right"),
    "swipe_right": ("swipe_left", "swipe_left"),
    "swipe_up": ("swipe_up", "swipe_down"),
    "swipe_down": ("swipe_down", "swipe_up"),
    "push_hand": ("push_hand", "pull_hand"),
    "pull_hand": ("pull_hand", "push_hand"),
    "circle_clockwise": ("circle_counterclockwise", "circle_counterclockwise"),
    "circle_counterclockwise": ("circle_clockwise", "circle_clockwise"),
    "turn_hand_clockwise": ("turn_hand_counterclockwise", "turn_hand_counterclockwise"),
    "turn_hand_counterclockwise": ("turn_hand_clockwise", "turn_hand_clockwise"),
    "zoom_in": ("zoom_in", "zoom_out"),
    "zoom_out": ("zoom_out", "zoom_in"),
    "open_hand": ("open_hand", "close_hand"),
    "close_hand": ("close_hand", "open_hand"),
    "shake_hand": ("shake_hand", "shake_hand"),
    "drum_fingers": ("drum_fingers", "drum_fingers"),
    "thumb_up": ("thumb_up", "thumb_up"),
    "thumb_down": ("thumb_down", "thumb_down"),
    "stop_sign": ("stop_sign", "stop_sign"),
    "point_up": ("point_up", "point_up"),
    "draw_triangle": ("draw_triangle", "draw_triangle"),
    "draw_square": ("draw_square", "draw_square"),
    "draw_cross": ("draw_cross", "draw_cross"),
    "draw_line_and_back": ("draw_line_and_back", "draw_line_and_back"),
}
GESTURES = tuple(_FACTS)
FLIPS = {gesture: facts[0] for gesture, facts in _FACTS.items()}
REVERSALS = {gesture: facts[1] for gesture, facts in _FACTS.items()}
