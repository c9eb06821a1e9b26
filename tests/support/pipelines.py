"""Pipelines on files, what their networks say, and the probabilities that they must find."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import load_model
from model.checkpoints.weights import ModelSpec
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import sampled_frames
from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.config import StreamConfig
from stream.pipeline import Pipeline
from stream.types import CameraOpened, ClipResults, StreamBreak, View


def config_for(
    weights: Path, tmp_path: Path, urls: dict[str, Path], **sections: object
) -> StreamConfig:
    """Settings that read these files as fast as possible, on the CPU in float32."""
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": str(path), "pace": "fast"} for name, path in urls.items()],
        "infer": {"weights": str(weights), "precision": "float32", "device": "cpu"},
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0, "changes": tmp_path / "changes.json"},
    }
    return StreamConfig.model_validate(fields | sections)


def run_pipeline(
    config: StreamConfig, stop: threading.Event | None = None, **options: Any
) -> dict[str, Any]:
    """Run a pipeline to its end; returns the summary."""
    with Pipeline(config) as pipeline:
        return pipeline.run(stop or threading.Event(), **options)


def recogniser_that(
    infer: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
) -> Callable[[InferConfig], Recogniser]:
    """Open recognisers whose `probabilities` are `infer(clips, real)`; warm-up is not affected."""

    class Changed(Recogniser):
        def __init__(self, config: InferConfig) -> None:
            super().__init__(config)
            self.is_warm = False

        def warm_up(self, max_batch: int) -> None:
            super().warm_up(max_batch)
            self.is_warm = True

        def probabilities(self, clips_BCTHW: Tensor) -> Tensor:
            real = super().probabilities
            return infer(clips_BCTHW, real) if self.is_warm else real(clips_BCTHW)

    return Changed


class ResultTap:
    """Notes the probabilities of every view on their way to the pipeline's announcer."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.seen: dict[View, list[list[float]]] = {}
        self._next = pipeline.inference.consumer
        pipeline.inference.consumer = self

    def open(self, opened: CameraOpened) -> None:
        """Pass it on."""
        self._next.open(opened)

    def push(self, results: ClipResults) -> None:
        """Note the probabilities and pass them on."""
        for ref, probabilities in zip(results.refs, results.probabilities_BK, strict=True):
            self.seen.setdefault(ref.view, []).append(probabilities)
        self._next.push(results)

    def interrupt(self, broken: StreamBreak) -> None:
        """Pass it on."""
        self._next.interrupt(broken)

    def tick(self) -> None:
        """Pass it on."""
        self._next.tick()

    def finish(self) -> None:
        """Pass it on."""
        self._next.finish()


def one_by_one(
    path: Path, weights: Path, hop: int, short_side: int | None = 96
) -> list[list[float]]:
    """Compute the probabilities of every due clip of a file without the pipeline.

    Frames come from train's decoder; each clip is one call of the network.
    """
    network = load_model(weights)
    assert isinstance(network.spec, ModelSpec)
    frames = np.stack(sampled_frames(path, 15.0, short_side=short_side))
    pictures = torch.cat(
        [
            Preprocessor(network.spec.preprocess, max_batch=1)([frame[None]])[0].clone()
            for frame in frames
        ]
    )
    with torch.no_grad():
        ends = list(range(32, len(frames) + 1, hop))
        if ends[-1] != len(frames):
            ends.append(len(frames))  # the last frames of a file get a clip of their own
        return [
            torch.softmax(
                network(normalise_clips(pictures[end - 32 : end][None], network.spec.preprocess)),
                dim=1,
            )[0].tolist()
            for end in ends
        ]
