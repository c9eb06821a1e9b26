"""What a network looks at: its activation maps over the frames of a video, and drawings of them."""

from model.activation.drawing import overlay_map, write_overlay, write_sheet
from model.activation.maps import (
    BestClip,
    ClipMaps,
    analyse_video,
    newest_map,
    rows_of_sub_clips,
)

__all__ = [
    "BestClip",
    "ClipMaps",
    "analyse_video",
    "newest_map",
    "overlay_map",
    "rows_of_sub_clips",
    "write_overlay",
    "write_sheet",
]
