"""Activation maps show which places of a frame the network responds to; they can be drawn."""

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
