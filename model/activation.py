"""What a network looks at: `att(F)` of the backbone's last map and of the CIDC network's, over the
frames (figures 1 and 4).

Letters: B clips, S sub-clips, T time, H and W space, K classes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import MediaError
from model.checkpoints.weights import ModelSpec
from model.cidc_network import attention_map
from model.media.conversion import RGBFrame
from model.media.preprocess import PreprocessConfig, Preprocessor, normalise_clips
from model.media.video import grid_frames
from model.network import ActionNetwork

__all__ = [
    "ClipMaps",
    "Surest",
    "analyse_video",
    "newest_map",
    "overlay_map",
    "rows_of_sub_clips",
    "write_overlay",
    "write_sheet",
]

_SHOWN_HEIGHT = 240
_BAND = 30
_WHITE = (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class ClipMaps:
    """One clip of a video and its maps.

    Attributes:
        start_seconds: of the clip, from the video's beginning.
        pictures_THWC: what the network saw, at a size to look at; RGB.
        maps: name of a map to `att(F)`, `S H W`: one for each sub-clip.
        label, probability: what the network says.
    """

    start_seconds: float
    pictures_THWC: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]
    label: str
    probability: float


def analyse_video(
    network: ActionNetwork, path: str | Path, *, start_seconds: float | None = None
) -> Iterator[ClipMaps]:
    """The maps of every clip of a video, clip after clip, one in memory at a time.

    A remainder shorter than a clip is left out, unless it is all there is: then it repeats its last
    frame.

    Args:
        network: as `load_model` gives it, folded into float32 or not.
        path: the video.
        start_seconds: only the clip that starts there.

    Raises:
        MediaError: nothing of it decodes; the message names the file.
    """
    spec = cast("ModelSpec", network.spec)
    frames = spec.model.frames
    seen = Preprocessor(spec.preprocess, max_batch=1)
    shown = Preprocessor(_enlarged(spec.preprocess), max_batch=1)

    def analyse(pictures: list[RGBFrame], begin_seconds: float) -> ClipMaps:
        clip = np.stack(pictures + [pictures[-1]] * (frames - len(pictures)))
        return _analyse_clip(
            network, spec, seen([clip]), shown([clip])[0].numpy().copy(), begin_seconds
        )

    held: list[RGBFrame] = []
    begin_seconds = 0.0
    count = 0
    try:
        for pts_seconds, picture, anew in grid_frames(path, spec.fps, start_seconds=start_seconds):
            if anew or not held:
                held = []
                begin_seconds = pts_seconds
            held.append(picture)
            if len(held) == frames:
                yield analyse(held, begin_seconds)
                held = []
                count = count + 1
                if start_seconds is not None:
                    return
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from None
    if held and count == 0:
        yield analyse(held, begin_seconds)
    elif count == 0:
        raise MediaError(f"{path}: no frame from {start_seconds or 0:g} s on")


class Surest:
    """Passes clips on and keeps the one to show: the action the network is surest of, background
    last.
    """

    def __init__(self, clips: Iterable[ClipMaps], background: str | None) -> None:
        self._clips = iter(clips)
        self._background = background
        self._best: ClipMaps | None = None
        self.count = 0

    def __iter__(self) -> Iterator[ClipMaps]:
        for clip in self._clips:
            self.count += 1
            if self._best is None or self._rank(clip) > self._rank(self._best):
                self._best = clip
            yield clip

    def finish(self) -> ClipMaps:
        """The clip to show, once the rest has passed."""
        for _ in self:
            pass
        assert self._best is not None
        return self._best

    def _rank(self, clip: ClipMaps) -> tuple[bool, float]:
        return clip.label != self._background, clip.probability


@torch.no_grad()
def _analyse_clip(
    network: ActionNetwork,
    spec: ModelSpec,
    clip: Tensor,
    shown: NDArray[np.uint8],
    start_seconds: float,
) -> ClipMaps:
    logits_BK, backbone_SHW, cidc_SHW = _maps(network, normalise_clips(clip, spec.preprocess))
    probabilities_K = torch.softmax(logits_BK, dim=1)[0]
    best = int(probabilities_K.argmax())
    maps = {f"without CIDC ({spec.model.backbone}): att(F)": backbone_SHW}
    if cidc_SHW is not None:
        maps["with CIDC: att(F_CIDC)"] = cidc_SHW
    return ClipMaps(start_seconds, shown, maps, spec.labels[best], float(probabilities_K[best]))


def _maps(
    network: ActionNetwork, clip_BCTHW: Tensor
) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32] | None]:
    """Logits, `att(F)` and, with a CIDC network, `att(F_CIDC)` of one normalised clip, a map `H
    W` for each sub-clip.
    """
    caught: dict[str, Tensor] = {}
    hooks = [
        network.backbone.register_forward_hook(
            lambda _m, _i, maps: caught.update(backbone=maps[-1])
        )
    ]
    if network.cidc is not None:
        hooks.append(network.cidc.register_forward_hook(lambda _m, _i, y: caught.update(cidc=y)))
    try:
        logits_BK = network(clip_BCTHW)
    finally:
        for hook in hooks:
            hook.remove()
    backbone_SHW = _numbers(attention_map(caught["backbone"]))
    if network.cidc is None:
        return logits_BK, backbone_SHW, None
    rows = rows_of_sub_clips(network.cidc.config.direction, len(backbone_SHW))
    return (
        logits_BK,
        backbone_SHW,
        np.einsum("sr,rhw->shw", rows, _numbers(attention_map(caught["cidc"]))),
    )


@torch.no_grad()
def newest_map(network: ActionNetwork, clip_BCTHW: Tensor) -> NDArray[np.float32]:
    """What a network looks at towards the end of one normalised clip, `att(F)` of its backbone: `H
    W`, 0 to 1 over the clip.

    The CIDC network's own map is not taken: its channels cancel each other, and their mean was seen
    to be low where people are.
    """
    newest: NDArray[np.float32] = _stretched(_maps(network, clip_BCTHW)[1])[-1]
    return newest


def overlay_map(
    picture: RGBFrame, strength_HW: NDArray[np.float32], framing: PreprocessConfig
) -> RGBFrame:
    """A map painted over that part of a whole picture which the network sees."""
    height, width = picture.shape[:2]
    scale = min(height, width) / framing.short_side
    rows = min(height, round(framing.height * scale))
    columns = min(width, round(framing.width * scale))
    top = (height - rows) // 2
    left = (width - columns) // 2
    painted = picture.copy()
    part = (slice(top, top + rows), slice(left, left + columns))
    painted[part] = _overlaid(picture[part], strength_HW)
    return painted


def rows_of_sub_clips(direction: str, time: int) -> NDArray[np.float32]:
    """Which rows of a CIDC map belong to which sub-clip: weights `S T` whose rows sum to 1.

    A `bi` map holds forward rows, then backward rows. Sub-clip s belongs to the forward rows that
    have seen just as much of the clip as lies before its end, and to the backward rows that have
    seen what lies behind its beginning; both count half.
    """
    if direction != "bi":
        return np.eye(time, dtype=np.float32)
    half = time // 2
    weights = np.zeros((time, time), dtype=np.float32)
    for sub_clip in range(time):
        place = sub_clip * (half - 1) / max(time - 1, 1)
        for first, at in ((0, place), (half, half - 1 - place)):
            low = min(int(at), half - 1)
            high = min(low + 1, half - 1)
            weights[sub_clip, first + low] += 0.5 * (1 - (at - low))
            weights[sub_clip, first + high] += 0.5 * (at - low)
    return weights


def write_sheet(clip: ClipMaps, path: str | Path) -> None:
    """One row of frames, one row per map; a column for each sub-clip, shown at its middle frame.

    Raises:
        MediaError: the picture cannot be written.
    """
    per_sub_clip = len(clip.pictures_THWC) // _sub_clips(clip)
    middles = [s * per_sub_clip + per_sub_clip // 2 for s in range(_sub_clips(clip))]
    frames = [clip.pictures_THWC[middle] for middle in middles]
    title = f"{clip.label} {clip.probability:.0%}, from {clip.start_seconds:.1f} s; frames"
    rows = [_titled(np.hstack(frames), title)]
    for name, scaled in _scaled(clip).items():
        rows.append(
            _titled(
                np.hstack([_overlaid(frame, scaled[s]) for s, frame in enumerate(frames)]), name
            )
        )
    if not cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)):
        raise MediaError(
            f"cannot write the picture {path}; is the folder there, and its ending .png or .jpg?"
        )


def write_overlay(clips: Iterable[ClipMaps], path: str | Path, *, fps: float) -> None:
    """A video with every map over every frame, side by side.

    Raises:
        MediaError: the file cannot be written.
    """
    pictures = _overlay_frames(clips)
    # The file is made only once there is something to write.
    first = next(pictures)
    try:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(
                "libx264", rate=Fraction(fps).limit_denominator(1000)
            )
            stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
            for number, picture in enumerate(itertools.chain([first], pictures)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                frame.time_base = 1 / Fraction(fps).limit_denominator(1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise MediaError(f"cannot write the video {path}: {error}") from error


def _overlay_frames(clips: Iterable[ClipMaps]) -> Iterator[RGBFrame]:
    for clip in clips:
        scaled = _scaled(clip)
        per_sub_clip = len(clip.pictures_THWC) // _sub_clips(clip)
        for number, picture in enumerate(clip.pictures_THWC):
            title = f"{clip.label} {clip.probability:.0%}"
            panels = [_titled(picture, title)]
            panels += [
                _titled(_overlaid(picture, maps[number // per_sub_clip]), name)
                for name, maps in scaled.items()
            ]
            whole = np.hstack(panels)
            # H.264 wants even sizes.
            yield np.ascontiguousarray(whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2])


def _scaled(clip: ClipMaps) -> dict[str, NDArray[np.float32]]:
    """Every map stretched to 0 to 1 over its clip, so that maps of different strength can be
    compared.
    """
    return {name: _stretched(values) for name, values in clip.maps.items()}


def _stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    span = float(values.max() - values.min())
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def _overlaid(picture: RGBFrame, strength_HW: NDArray[np.float32]) -> RGBFrame:
    height, width = picture.shape[:2]
    enlarged = cv2.resize(strength_HW, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.cvtColor(
        cv2.applyColorMap((255 * enlarged).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB
    )
    mixed: RGBFrame = cv2.addWeighted(picture, 0.5, colours, 0.5, 0.0).astype(np.uint8)
    return mixed


def _titled(picture: RGBFrame, title: str) -> RGBFrame:
    band = np.zeros((_BAND, picture.shape[1], 3), np.uint8)
    cv2.putText(band, title, (8, _BAND - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _WHITE, 1, cv2.LINE_AA)
    return np.vstack([band, picture])


def _numbers(maps_BTHW: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", maps_BTHW[0, 0].float().cpu().numpy())


def _sub_clips(clip: ClipMaps) -> int:
    return len(next(iter(clip.maps.values())))


def _enlarged(config: PreprocessConfig) -> PreprocessConfig:
    """The same framing at a size to look at."""
    times = max(1, round(_SHOWN_HEIGHT / config.height))
    return config.model_copy(
        update={
            "short_side": times * config.short_side,
            "height": times * config.height,
            "width": times * config.width,
        }
    )
