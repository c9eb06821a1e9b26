"""Draw activation maps: a sheet of one clip, a video of all clips, or a map over one frame.

Letters: S sub-clips, T time, H and W space, C channels (RGB).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError
from model.activation.maps import ClipMaps, stretched
from model.media.conversion import RGBFrame
from model.media.preprocess import PreprocessConfig

__all__ = ["overlay_map", "titled_frame", "write_overlay", "write_sheet"]

_TITLE_HEIGHT = 30
_WHITE = (255, 255, 255)


def write_sheet(clip: ClipMaps, path: str | Path) -> None:
    """Write an image with a row of frames, a row per map, and a column per sub-clip.

    The middle frame of each sub-clip represents it.

    Raises:
        MediaError: the image cannot be written.
    """
    frames_per_sub_clip = _frames_per_sub_clip(clip)
    frames = clip.frames_THWC[frames_per_sub_clip // 2 :: frames_per_sub_clip]
    title = f"{clip.label} {clip.probability:.0%}, from {clip.start_seconds:.1f} s; frames"
    rows = [_titled(np.hstack(list(frames)), title)]
    for name, map_SHW in _stretched_maps(clip).items():
        overlaid = [_overlaid(frame, map_SHW[s]) for s, frame in enumerate(frames)]
        rows.append(_titled(np.hstack(overlaid), name))
    picture = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    try:
        # OpenCV itself would crash on a file name that is not UTF-8.
        Path(path).write_bytes(cv2.imencode(Path(path).suffix, picture)[1].tobytes())
    except (cv2.error, OSError):
        raise MediaError(
            f"cannot write the picture {path}; is the folder there, and its ending .png or .jpg?"
        ) from None


def write_overlay(clips: Iterable[ClipMaps], path: str | Path, *, fps: float) -> None:
    """Write a video of every frame: the plain frame and, beside it, the frame with each map.

    Raises:
        MediaError: the file cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1000)
    drawn = _drawn_frames(clips)
    # The file is created only after the first frame is drawn.
    first = next(drawn)
    try:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("libx264", rate=rate)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuv420p"
            for number, rgb in enumerate(itertools.chain([first], drawn)):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.pts = number
                frame.time_base = 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot write the video {path}: {error}") from error


def overlay_map(
    frame: RGBFrame, strength_HW: NDArray[np.float32], config: PreprocessConfig
) -> RGBFrame:
    """Draw a map over the centre crop of a frame, the part that the network sees."""
    height, width = frame.shape[:2]
    scale = min(height, width) / config.short_side
    rows = min(height, round(config.height * scale))
    columns = min(width, round(config.width * scale))
    top = (height - rows) // 2
    left = (width - columns) // 2
    drawn = frame.copy()
    part = (slice(top, top + rows), slice(left, left + columns))
    drawn[part] = _overlaid(frame[part], strength_HW)
    return drawn


def titled_frame(frame: RGBFrame, title: str) -> RGBFrame:
    """Write a title over the top left corner of a frame; return a new frame of the same size."""
    text = _drawable(title)
    scale = max(0.35, frame.shape[0] / 720)
    thickness = max(1, round(scale))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    drawn = frame.copy()
    drawn[: height + 2 * base, : width + 2 * base] = 0
    origin = (base, height + base)
    cv2.putText(
        *(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, thickness, cv2.LINE_AA)
    )
    return drawn


def _drawable(title: str) -> str:
    """Return the title with a question mark for each character that OpenCV cannot draw."""
    return title.encode("ascii", "replace").decode()


def _drawn_frames(clips: Iterable[ClipMaps]) -> Iterator[RGBFrame]:
    for clip in clips:
        maps = _stretched_maps(clip)
        frames_per_sub_clip = _frames_per_sub_clip(clip)
        for number, frame in enumerate(clip.frames_THWC):
            sub_clip = number // frames_per_sub_clip
            panels = [_titled(frame, f"{clip.label} {clip.probability:.0%}")]
            panels += [
                _titled(_overlaid(frame, map_SHW[sub_clip]), name) for name, map_SHW in maps.items()
            ]
            whole = np.hstack(panels)
            # H.264 needs an even height and width.
            yield np.ascontiguousarray(whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2])


def _stretched_maps(clip: ClipMaps) -> dict[str, NDArray[np.float32]]:
    return {name: stretched(map_SHW) for name, map_SHW in clip.maps.items()}


def _frames_per_sub_clip(clip: ClipMaps) -> int:
    sub_clips = len(next(iter(clip.maps.values())))
    return len(clip.frames_THWC) // sub_clips


def _overlaid(frame: RGBFrame, strength_HW: NDArray[np.float32]) -> RGBFrame:
    height, width = frame.shape[:2]
    enlarged = cv2.resize(strength_HW, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((255 * enlarged).astype(np.uint8), cv2.COLORMAP_TURBO)
    colours_rgb = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
    mixed: RGBFrame = cv2.addWeighted(frame, 0.5, colours_rgb, 0.5, 0.0).astype(np.uint8)
    return mixed


def _titled(image: RGBFrame, title: str) -> RGBFrame:
    band = np.zeros((_TITLE_HEIGHT, image.shape[1], 3), np.uint8)
    origin = (8, _TITLE_HEIGHT - 10)
    text = _drawable(title)
    cv2.putText(band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _WHITE, 1, cv2.LINE_AA)
    return np.vstack([band, image])
