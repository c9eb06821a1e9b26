"""Runs that start from trained weights, whole or the backbone alone."""

from pathlib import Path

import pytest
import torch

from configs import CheckpointError
from model import load_model
from tests.train.runs import SMALL_FRAMES
from train.config import TrainConfig
from train.engine.trainer import train
from train.synthetic import LABELS


@pytest.mark.slow
def test_a_run_goes_on_from_whole_weights_and_only_from_its_own(
    config: TrainConfig, tmp_path: Path
) -> None:
    one = config.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
        }
    )
    train(one, quiet=True)
    weights = config.out / "model.safetensors"
    also = (config.data.train,)
    data = config.data.model_copy(update={"also": also})
    second = one.model_copy(
        update={
            "out": tmp_path / "second",
            "weights_from": weights,
            "data": data,
            "weights_format": "bfloat16",
        }
    )
    train(second, quiet=True)
    started = load_model(tmp_path / "second/model.safetensors")
    source = load_model(weights)
    torch.testing.assert_close(
        started.classifier.weight, source.classifier.weight, atol=1e-3, rtol=1e-2
    )
    labels = (*LABELS, "another")
    wider = second.model_copy(
        update={
            "out": tmp_path / "wider",
            "model": one.model.model_copy(update={"num_classes": len(labels)}),
            "data": data.model_copy(update={"labels": labels}),
        }
    )
    train(wider, quiet=True)
    other = load_model(tmp_path / "wider/model.safetensors")
    assert other.classifier.weight.shape[0] == len(labels)
    torch.testing.assert_close(
        other.backbone.stem.conv.weight, source.backbone.stem.conv.weight, atol=1e-3, rtol=1e-2
    )
    narrow = second.model_copy(update={"model": one.model.model_copy(update={"cidc": None})})
    with pytest.raises(CheckpointError, match="is of another network"):
        train(narrow, quiet=True)


@pytest.mark.slow
def test_a_run_can_start_from_a_trained_backbone_and_only_from_its_own(
    config: TrainConfig, tmp_path: Path
) -> None:
    one = config.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
        }
    )
    pooled = one.model_copy(
        update={"out": tmp_path / "pooled", "model": one.model.model_copy(update={"cidc": None})}
    )
    train(pooled, quiet=True)
    weights = tmp_path / "pooled/model.safetensors"
    train(one.model_copy(update={"backbone_from": weights}), quiet=True)
    started = load_model(config.out / "model.safetensors")
    source = load_model(weights)
    torch.testing.assert_close(
        started.backbone.stem.conv.weight, source.backbone.stem.conv.weight, atol=1e-6, rtol=0
    )
    for field, value in (("width", 16), ("entry", "sampled"), ("backbone", "tsm")):
        other = one.model_copy(
            update={"backbone_from": weights, "model": one.model.model_copy(update={field: value})}
        )
        with pytest.raises(CheckpointError, match=f"has another backbone: .*model.{field} is"):
            train(other, quiet=True)
    grey = one.model_copy(
        update={
            "backbone_from": weights,
            "preprocess": SMALL_FRAMES.model_copy(update={"mean_rgb": (114.75,) * 3}),
        }
    )
    with pytest.raises(CheckpointError, match=r"preprocess\.mean_rgb"):
        train(grey, quiet=True)
