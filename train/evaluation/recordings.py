"""Runs a network over untrimmed recordings as the live pipeline does, and returns its events.

Time grid, preprocessing, folded network and state machine are the same as in the pipeline; cameras,
clocks and queues are not used. Letters in names of tensors: N clips, K classes, B clips of a batch,
T frames, H height, W width, C channels.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from configs import DataError, MediaError, readable, shows_progress
from model.calibration import probabilities_of
from model.checkpoints.weights import ModelSpec
from model.detection import ActionDetector, DetectionConfig
from model.media.clip_cutter import ClipCutter
from model.media.container import naming_file
from model.media.image_sequence import ImageSequence
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import GridFrame, grid_frames, no_frame
from model.network import ActionNetwork, fold_for_inference
from train.data.manifest import Manifest
from train.data.video_check import recording_hours
from train.evaluation.event_metrics import EventMetrics, StartedEvent, measure_events

__all__ = [
    "Timeline",
    "detect",
    "measure_tolerances",
    "recording_timelines",
    "recordings_of",
]

_BATCH = 8
_FRAMES_AT_ONCE = 16  # frames in one run of DALI's graph
TimedFrame = tuple[float, Tensor]


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The network's probabilities over an uninterrupted part of a recording.

    Row n of `probabilities_NK` belongs to the clip that ends at `ends_N[n]` seconds.
    """

    camera: str
    ends_N: tuple[float, ...]
    probabilities_NK: Tensor


def recording_timelines(
    network: ActionNetwork,
    recordings: Sequence[Path | ImageSequence],
    *,
    stride: int,
    dtype: torch.dtype,
    quiet: bool = False,
) -> list[Timeline]:
    """Run a loaded network over recordings; the network is folded in place.

    Frames are preprocessed on the network's device, and stay there.

    Args:
        stride: number of sampled frames between the starts of two consecutive clips.

    Raises:
        MediaError: a recording cannot be opened or decoded; the message names it.
    """
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    folded = fold_for_inference(network.eval(), dtype)
    device = next(network.parameters()).device
    timelines: list[Timeline] = []
    hidden = quiet or not shows_progress()
    for video in track(recordings, description="recordings", disable=hidden):
        clips = _numbered_clips(video, spec, stride, device)
        count = len(timelines)
        for _, part in itertools.groupby(clips, key=lambda numbered: numbered[0]):
            timelines.append(_timeline(video.stem, (clip for _, clip in part), folded, spec, dtype))
        if len(timelines) == count:
            raise MediaError(f"{readable(video)}: {no_frame(None, None)}")
    return timelines


def detect(
    timelines: Sequence[Timeline], config: DetectionConfig, *, spec: ModelSpec
) -> list[StartedEvent]:
    """Run the state machine over timelines; return the starts of actions that it announces."""
    events = []
    for timeline in timelines:
        detector = ActionDetector(
            config,
            labels=spec.labels,
            clip_seconds=(spec.model.frames - 1) / spec.fps,
            background=spec.background,
        )
        rows = zip(timeline.ends_N, timeline.probabilities_NK.tolist(), strict=True)
        for end, probabilities in rows:
            for found in detector.push(probabilities, end):
                if found.kind == "started":
                    start = round(found.start_seconds, 3)
                    events.append(
                        StartedEvent(timeline.camera, found.action, start, found.at_seconds)
                    )
    return events


def measure_tolerances(
    truth: Manifest,
    events: Sequence[StartedEvent],
    tolerances: Sequence[float],
    *,
    hours: float | None = None,
) -> dict[float, EventMetrics]:
    """Compare events with the truth for each tolerance in seconds.

    Args:
        hours: length of the video in camera-hours; None: measure the recordings.
    """
    hours = recording_hours(truth) if hours is None else hours
    return {
        tolerance: measure_events(truth, events, hours=hours, tolerance_seconds=tolerance)
        for tolerance in sorted(tolerances)
    }


def recordings_of(truth: Manifest) -> list[Path | ImageSequence]:
    """Return the recordings of a truth file without repetitions.

    Raises:
        DataError: two recordings have the same file name, which would name the same camera.
    """
    videos = list(dict.fromkeys(entry.video for entry in truth.entries))
    if len({video.stem for video in videos}) != len(videos):
        raise DataError(
            f"truth {truth.path}: two recordings have the same file name; the names must differ"
            " because each names a camera"
        )
    return videos


def _numbered_clips(
    video: Path | ImageSequence, spec: ModelSpec, stride: int, device: torch.device
) -> Iterator[tuple[int, list[TimedFrame]]]:
    """Yield each clip together with the number of the uninterrupted part it comes from.

    As in the live pipeline, the last frames of the recording get an additional clip; the last
    frames before an interruption do not.
    """
    graph = Preprocessor(
        spec.preprocess,
        max_batch=1,
        device="gpu" if device.type == "cuda" else "cpu",
        gpu=device.index,
    )
    cutter: ClipCutter[TimedFrame] = ClipCutter(spec.model.frames, stride)
    part = 0
    for pts_seconds, small_HWC, is_break in _small_frames(_grid_frames_of(video, spec), graph):
        if is_break:
            cutter.restart()
            part += 1
        clip = cutter.push((pts_seconds, small_HWC))
        if clip is not None:
            yield part, clip
    last = cutter.finish()
    if last is not None:
        yield part, last


def _small_frames(
    frames: Iterable[GridFrame], graph: Preprocessor
) -> Iterator[tuple[float, Tensor, bool]]:
    """Preprocess frames, several at once; yield time, frame, and whether the grid restarts."""
    for _, same_size in itertools.groupby(frames, key=lambda item: item[1].shape):
        while some := list(itertools.islice(same_size, _FRAMES_AT_ONCE)):
            small_FHWC = graph([np.stack([frame for _, frame, _ in some])])[0].clone()
            for (pts_seconds, _, is_break), small_HWC in zip(some, small_FHWC, strict=True):
                yield pts_seconds, small_HWC, is_break


def _grid_frames_of(video: Path | ImageSequence, spec: ModelSpec) -> Iterator[GridFrame]:
    with naming_file(video):
        yield from grid_frames(video, spec.fps, short_side=spec.preprocess.live_short_side)


def _timeline(
    camera: str,
    clips: Iterator[list[TimedFrame]],
    network: ActionNetwork,
    spec: ModelSpec,
    dtype: torch.dtype,
) -> Timeline:
    ends: list[float] = []
    rows: list[Tensor] = []
    while batch := list(itertools.islice(clips, _BATCH)):
        ends += [clip[-1][0] for clip in batch]
        rows.append(_probabilities(network, batch, spec, dtype))
    return Timeline(camera, tuple(ends), torch.cat(rows))


@torch.inference_mode()
def _probabilities(
    network: ActionNetwork,
    clips: Sequence[Sequence[TimedFrame]],
    spec: ModelSpec,
    dtype: torch.dtype,
) -> Tensor:
    clips_BTHWC = torch.stack([torch.stack([frame for _, frame in clip]) for clip in clips])
    logits_BK = network(normalise_clips(clips_BTHWC, spec.preprocess, dtype=dtype))
    return probabilities_of(logits_BK, spec.temperature).cpu()
