"""A network over untrimmed recordings as the live pipeline runs it, and its events against the
truth.

The same time grid, preprocessing, folded network and state machine as in the pipeline, without its
cameras, clocks and queues.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from configs import ConfigError, DataError, parse_config
from model.checkpoints.weights import ModelSpec
from model.detection import ActionDetector, DetectionConfig
from model.media.conversion import RGBFrame
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import grid_frames
from model.network import ActionNetwork, fold_for_inference
from train.data.manifest import Manifest
from train.data.video_check import recording_hours
from train.evaluation.event_metrics import EventScore, StartedEvent, score_events

__all__ = [
    "Timeline",
    "detect",
    "read_detection",
    "recording_timelines",
    "recordings_of",
    "score_tolerances",
]

_BATCH = 8
Clip = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What the network says along an unbroken part of a recording: `probabilities_NK` of clips
    that end at `ends_N` seconds.
    """

    camera: str
    ends_N: tuple[float, ...]
    probabilities_NK: Tensor


def recording_timelines(
    network: ActionNetwork,
    recordings: Sequence[Path],
    *,
    hop: int,
    dtype: torch.dtype,
    quiet: bool = False,
) -> list[Timeline]:
    """Run a loaded network over recordings, a clip every `hop` sampled frames. The network is
    folded on the way.

    Raises:
        MediaError: a recording cannot be opened or does not decode.
    """
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    folded = fold_for_inference(network.eval(), dtype)
    graph = Preprocessor(spec.preprocess, max_batch=1)
    timelines: list[Timeline] = []
    for path in track(recordings, description="recordings", disable=quiet):
        for part in _parts(path, spec, graph, hop):
            ends: list[float] = []
            rows: list[Tensor] = []
            while batch := list(itertools.islice(part, _BATCH)):
                ends += [end for end, _ in batch]
                rows.append(_probabilities(folded, [clip for _, clip in batch], spec, dtype))
            if rows:
                timelines.append(Timeline(path.stem, tuple(ends), torch.cat(rows)))
    return timelines


def detect(
    timelines: Sequence[Timeline], config: DetectionConfig, *, spec: ModelSpec
) -> list[StartedEvent]:
    """The actions that the state machine announces."""
    clip_seconds = (spec.model.frames - 1) / spec.fps
    events = []
    for timeline in timelines:
        detector = ActionDetector(
            config, labels=spec.labels, clip_seconds=clip_seconds, background=spec.background
        )
        for end, probabilities in zip(
            timeline.ends_N, timeline.probabilities_NK.tolist(), strict=True
        ):
            events += [
                StartedEvent(
                    timeline.camera, found.action, round(found.start_seconds, 3), found.at_seconds
                )
                for found in detector.push(probabilities, end)
                if found.kind == "started"
            ]
    return events


def score_tolerances(
    truth: Manifest,
    events: Sequence[StartedEvent],
    tolerances: Sequence[float],
    *,
    hours: float | None = None,
) -> dict[float, EventScore]:
    """The events' score for each tolerance in seconds; without `hours` the recordings' own
    lengths count.
    """
    hours = recording_hours(truth) if hours is None else hours
    return {
        tolerance: score_events(truth, events, hours=hours, tolerance_seconds=tolerance)
        for tolerance in sorted(tolerances)
    }


def read_detection(path: Path | None) -> tuple[DetectionConfig, int]:
    """The `events` section and `clip.hop` of a stream configuration; the defaults of both without a
    file.

    Raises:
        ConfigError: the file is missing or its sections are malformed.
    """
    if path is None:
        return DetectionConfig(), 4
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        events = dict(tree.get("events") or {})
        hop = int((tree.get("clip") or {}).get("hop", 4))
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"stream configuration {path} cannot be read: {error}") from None
    if hop < 1:
        raise ConfigError(f"stream configuration {path}: clip.hop must be at least 1, got {hop}")
    events.pop("top_k", None)  # how events are listed, not when they happen
    return parse_config(yaml.safe_dump(events), DetectionConfig, name=f"{path}, events"), hop


def _parts(
    path: Path, spec: ModelSpec, graph: Preprocessor, hop: int
) -> Iterator[Iterator[tuple[float, Clip]]]:
    """The unbroken parts of a recording, each to be read to its end before the next: when its
    clips end, and the clips.
    """
    pictures = grid_frames(path, spec.fps, short_side=spec.preprocess.live_short_side)
    first: list[tuple[float, RGBFrame]] = []  # the picture with which the next part begins

    def part() -> Iterator[tuple[float, Clip]]:
        recent: collections.deque[RGBFrame] = collections.deque(maxlen=spec.model.frames)
        count = 0
        latest = 0.0
        is_new = False
        for count, (pts, picture, anew) in enumerate(
            itertools.chain([(*first.pop(), False)] if first else [], pictures), start=1
        ):
            if anew:
                first.append((pts, picture))
                return
            recent.append(graph([picture[None]])[0, 0].numpy().copy())
            latest = pts
            is_new = True
            if count >= spec.model.frames and (count - spec.model.frames) % hop == 0:
                is_new = False
                yield pts, np.stack(recent)
        # the recording's last frames get a clip of their own; a recording shorter than a clip
        # repeats its last
        if is_new:
            while len(recent) < spec.model.frames:
                recent.append(recent[-1])
            yield latest, np.stack(recent)

    yield part()
    while first:
        yield part()


@torch.inference_mode()
def _probabilities(
    network: ActionNetwork, clips: Sequence[Clip], spec: ModelSpec, dtype: torch.dtype
) -> Tensor:
    clips_BTHWC = torch.from_numpy(np.stack(clips)).to(next(network.parameters()).device)
    logits_BK = network(normalise_clips(clips_BTHWC, spec.preprocess, dtype=dtype))
    return torch.softmax(logits_BK, dim=1).cpu()


def recordings_of(truth: Manifest) -> list[Path]:
    """The recordings of a truth file, each once.

    Raises:
        DataError: two have the same name, which is the name of their camera.
    """
    paths = list(dict.fromkeys(entry.path for entry in truth.entries))
    if len({path.stem for path in paths}) != len(paths):
        raise DataError(
            f"truth {truth.path}: two recordings have the same file name; it is the name of their"
            " camera"
        )
    return paths
