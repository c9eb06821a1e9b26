"""The DALI graph itself: frames in, pictures of the model's size out."""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn, pipeline_def, types

__all__ = ["clip_graph", "encoded_clip_graph", "sized_clip_graph"]


@pipeline_def  # type: ignore[untyped-decorator]
def clip_graph(device: str, height: int, width: int) -> Any:
    """Frames in, model-size uint8 frames out; every random choice comes in from outside, as a
    plan.
    """
    frames = fn.external_source(name="frames", layout="FHWC", no_copy=True)
    return _picture(frames.gpu() if device == "gpu" else frames, height, width)


@pipeline_def  # type: ignore[untyped-decorator]
def sized_clip_graph(device: str, height: int, width: int) -> Any:
    """As `clip_graph`, for frames that have their size already: DALI's resize costs as much
    where it has nothing to do.
    """
    frames = fn.external_source(name="frames", layout="FHWC", no_copy=True)
    return _cut(frames.gpu() if device == "gpu" else frames, height, width)


@pipeline_def  # type: ignore[untyped-decorator]
def encoded_clip_graph(device: str, height: int, width: int) -> Any:
    """As `clip_graph`, from files still encoded and the places of the wanted frames; on the GPU
    nothing leaves it.
    """
    encoded = fn.external_source(name="encoded", no_copy=True)
    places = fn.external_source(name="places")
    return _picture(
        fn.decoders.video(encoded, frames=places, device="mixed" if device == "gpu" else "cpu"),
        height,
        width,
    )


def _picture(frames: Any, height: int, width: int) -> Any:
    short_side = fn.external_source(name="short_side")
    return _cut(
        fn.resize(
            frames, resize_shorter=short_side, interp_type=types.INTERP_LINEAR, antialias=True
        ),
        height,
        width,
    )


def _cut(frames: Any, height: int, width: int) -> Any:
    crop_x = fn.external_source(name="crop_x")
    crop_y = fn.external_source(name="crop_y")
    mirror = fn.external_source(name="mirror")
    cropped = fn.crop(
        frames,
        crop_h=height,
        crop_w=width,
        crop_pos_x=crop_x,
        crop_pos_y=crop_y,
        out_of_bounds_policy="pad",
        fill_values=0,
    )
    return fn.flip(cropped, horizontal=mirror)
