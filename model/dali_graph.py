"""The DALI graph itself: frames in, pictures of the model's size out."""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn, pipeline_def, types

__all__ = ["clip_graph"]


@pipeline_def  # type: ignore[untyped-decorator]
def clip_graph(device: str, height: int, width: int) -> Any:
    """Frames in, model-size uint8 frames out; every random choice comes in from outside, as a plan."""
    frames = fn.external_source(name="frames", layout="FHWC", no_copy=True)
    short_side = fn.external_source(name="short_side")
    crop_x, crop_y = fn.external_source(name="crop_x"), fn.external_source(name="crop_y")
    mirror = fn.external_source(name="mirror")
    if device == "gpu":
        frames = frames.gpu()
    resized = fn.resize(frames, resize_shorter=short_side, interp_type=types.INTERP_LINEAR, antialias=True)
    cropped = fn.crop(resized, crop_h=height, crop_w=width, crop_pos_x=crop_x, crop_pos_y=crop_y, out_of_bounds_policy="pad", fill_values=0)
    return fn.flip(cropped, horizontal=mirror)
