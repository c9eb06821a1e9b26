"""Fixtures of the training tests."""

from pathlib import Path

import pytest

from model import ModelConfig
from tests.train.runs import SMALL_FRAMES
from train.config import DataConfig, OptimiserConfig, TrainConfig
from train.synthetic import LABELS


@pytest.fixture
def config(scenes: Path, tmp_path: Path) -> TrainConfig:
    """A short run of a small network on generated clips."""
    manifest = scenes / "clips/manifest.csv"
    return TrainConfig(
        name="test",
        out=tmp_path / "run",
        precision="float32",
        device="cpu",
        model=ModelConfig(depth=18, num_classes=len(LABELS), width=8),
        preprocess=SMALL_FRAMES,
        data=DataConfig(
            train=manifest,
            validation=manifest,
            labels=LABELS,
            background="background",
            cache=tmp_path / "cache",
            short_side_min=48,
            short_side_max=56,
            flip_labels={"walk_left": "walk_right", "walk_right": "walk_left"},
        ),
        optimiser=OptimiserConfig(epochs=2, batch=4, learning_rate=0.02),
    )
