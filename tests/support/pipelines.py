"""Settings of pipelines on files, and the probabilities that they must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model import load_model
from model.checkpoints.weights import ModelSpec
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import sampled_frames
from stream.config import StreamConfig


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
