"""Settings of batches and of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from configs import CheckpointError, ConfigError, StrictModel
from model.checkpoints.shipped import find_weights, shipped_names
from model.checkpoints.weights import ModelSpec
from model.mixing import MixingPath
from model.runtime import DeviceChoice, Precision

__all__ = ["BatchConfig", "InferConfig", "check_spec", "weights_path"]


class BatchConfig(StrictModel):
    """Limits of batches, and of the frames and clips that wait for the network."""

    renamed: ClassVar[Mapping[str, str]] = {
        "wait_seconds": "max_wait_seconds",
        "most_views": "max_views",
    }

    max_batch: int = Field(8, ge=1, le=1024, description="clips in one run of the network, at most")
    deadline_seconds: float = Field(
        0.05, ge=0, le=10, description="a clip waits at most this long for others to join its batch"
    )
    camera_queue: int = Field(
        32,
        ge=2,
        le=4096,
        description="sampled frames of one camera that may wait; then the camera is blocked",
    )
    ready_batches: int = Field(
        16, ge=1, le=64, description="formed batches that may wait for the network"
    )
    max_wait_seconds: float = Field(
        0.75,
        gt=0,
        le=60,
        description=(
            "clips of live cameras are dropped, evenly, once the network would get to them only"
            " after this long"
        ),
    )
    max_views: int | None = Field(
        None,
        ge=1,
        le=4096,
        description=(
            "cameras, or their regions, at once; null: as many as are configured, at least 64"
        ),
    )


class InferConfig(StrictModel):
    """The network and what it runs on."""

    weights: str = Field(
        "scenes-r2d18-cidc",
        description="a weights file, or the name of weights that ship with the package",
    )
    labels: tuple[str, ...] | None = Field(
        None, description="class names that the weights must have; null to accept theirs"
    )
    device: DeviceChoice = Field("auto", description="where to run")
    precision: Precision = Field("auto", description="number format of convolutions")
    mixing: MixingPath = Field(
        "auto",
        description=(
            "GPU kernels (mixing, clip gather): where they can run; cuda: or an error; reference:"
            " never"
        ),
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads of the network; 0 leaves the choice to PyTorch"
    )


def weights_path(config: InferConfig) -> Path:
    """The weights file that a configuration names.

    Raises:
        ConfigError: there is no such file and no such name; the message lists the names that ship.
    """
    if (path := find_weights(config.weights)) is not None:
        return path
    names = ", ".join(shipped_names()) or "none"
    raise ConfigError(
        f"infer.weights: no weights file {config.weights!r}; give a path, or a name that ships:"
        f" {names}"
    )


def check_spec(spec: ModelSpec, config: InferConfig, fps: float) -> None:
    """Compare what the weights say with what the configuration expects.

    Raises:
        CheckpointError: other labels, or another frame rate.
    """
    if config.labels is not None and config.labels != spec.labels:
        raise CheckpointError(
            f"infer.labels is {list(config.labels)}, but the weights {config.weights} have"
            f" {list(spec.labels)}; use the weights these labels belong to, or remove infer.labels"
        )
    if fps != spec.fps:
        raise CheckpointError(
            f"clip.fps is {fps:g}, but the weights {config.weights} were trained at {spec.fps:g};"
            f" set clip.fps: {spec.fps:g}"
        )
