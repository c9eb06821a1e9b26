"""Activation maps show which places of a frame the network responds to; they can be drawn."""

from model.activation.class_activation import (
    class_activation,
    has_class_activation,
    rows_of_sub_clips,
)
from model.activation.drawing import overlay_map, titled_frame, write_overlay, write_sheet
from model.activation.maps import (
    BestClip,
    ClipMaps,
    NetworkMaps,
    analyse_video,
    network_maps,
    newest_map,
)

__all__ = [
    "BestClip",
    "ClipMaps",
    "NetworkMaps",
    "analyse_video",
    "class_activation",
    "has_class_activation",
    "network_maps",
    "newest_map",
    "overlay_map",
    "rows_of_sub_clips",
    "titled_frame",
    "write_overlay",
    "write_sheet",
]
