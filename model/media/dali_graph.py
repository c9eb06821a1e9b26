"""DALI graphs that decode video, and that crop and flip frames to the size of the network's input.

The crop position and the flip of each clip are inputs of the graph, so it makes no random choices.
"""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn, pipeline_def, types

__all__ = ["clip_graph", "encoded_clip_graph", "gop_graph", "sized_clip_graph"]


@pipeline_def  # type: ignore[untyped-decorator]
def clip_graph(device: str, height: int, width: int) -> Any:
    """Resize, crop and flip clips of uint8 frames that lie on the device."""
    return _cropped(_resized(_frames(device)), height, width)


@pipeline_def  # type: ignore[untyped-decorator]
def sized_clip_graph(device: str, height: int, width: int) -> Any:
    """Crop and flip clips whose shorter side already has the right length; do not resize them."""
    return _cropped(_frames(device), height, width)


@pipeline_def  # type: ignore[untyped-decorator]
def encoded_clip_graph(device: str, height: int, width: int, cuts_rows: bool = False) -> Any:
    """Decode the requested frames of encoded files, then resize, crop and flip them.

    On a GPU, the decoded frames stay in GPU memory.

    Args:
        cuts_rows: whether only the first rows of the decoded frames are used; the input `rows`
            says for each file how many. Coded frames have a multiple of 16 rows, for example 1088
            for 1080; DALI shows all of them if the file does not name the rows to cut.
    """
    encoded = fn.external_source(name="encoded", no_copy=True)
    places = fn.external_source(name="places")
    frames = _decoded(encoded, places, device)
    if cuts_rows:
        rows = fn.external_source(name="rows")
        # Frames with fewer rows keep all of them.
        frames = fn.slice(
            frames, rel_start=0.0, shape=rows, axes=[1], out_of_bounds_policy="trim_to_shape"
        )
    return _cropped(_resized(frames), height, width)


@pipeline_def  # type: ignore[untyped-decorator]
def gop_graph(device: str) -> Any:
    """Decode the wanted frames of groups of pictures; they keep their size."""
    encoded = fn.external_source(name="encoded", no_copy=True)
    wanted = fn.external_source(name="wanted")
    return _decoded(encoded, wanted, device)


def _decoded(encoded: Any, places: Any, device: str) -> Any:
    if device != "gpu":
        return fn.decoders.video(encoded, frames=places, device="cpu")
    # By default, DALI pins its threads to cores, to the same ones in every process of a machine.
    return fn.decoders.video(encoded, frames=places, device="mixed", affine=False)


def _frames(device: str) -> Any:
    if device == "gpu":
        return fn.external_source(name="frames", device="gpu", layout="FHWC")
    return fn.external_source(name="frames", layout="FHWC", no_copy=True)


def _resized(frames: Any) -> Any:
    short_side = fn.external_source(name="short_side")
    return fn.resize(
        frames, resize_shorter=short_side, interp_type=types.INTERP_LINEAR, antialias=True
    )


def _cropped(frames: Any, height: int, width: int) -> Any:
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
