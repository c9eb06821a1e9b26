"""Settings of batches and of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field

from configs import CheckpointError, ConfigError, StrictModel
from model.checkpoints.shipped import find_weights, shipped_names
from model.checkpoints.weights import ModelSpec
from model.inference.engine import EngineChoice
from model.mixing import MixingPath
from model.runtime import DeviceChoice, Precision
from model.staging import StagingChoice

__all__ = ["BatchConfig", "BatchSizes", "InferConfig", "check_spec", "weights_path"]

# From this much memory on, a GPU gets the largest default batch.
_LARGE_GPU_BYTES = 32 << 30


class BatchSizes(NamedTuple):
    """Clips in one run of the network, and frames in one run of the preprocessing, at most."""

    max_batch: int
    frames_at_once: int


# Measured for the CPU. Those of GPUs are estimates: nothing ran on one.
_CPU_SIZES = BatchSizes(max_batch=8, frames_at_once=16)
_GPU_SIZES = BatchSizes(max_batch=16, frames_at_once=64)
_LARGE_GPU_SIZES = BatchSizes(max_batch=32, frames_at_once=64)


class BatchConfig(StrictModel):
    """Limits of batches, and of the frames and clips that wait for the network."""

    renamed: ClassVar[Mapping[str, str]] = {
        "wait_seconds": "max_wait_seconds",
        "most_views": "max_views",
    }

    max_batch: int | None = Field(
        None,
        ge=1,
        le=1024,
        description=(
            "clips in one run of the network, at most; null: 8 on a CPU, 16 on a GPU, 32 on a GPU"
            " with 32 GiB or more"
        ),
    )
    frames_at_once: int | None = Field(
        None,
        ge=1,
        le=1024,
        description=(
            "frames, or their regions, resized in one call, at most; null: 16 on a CPU, 64 on a GPU"
        ),
    )
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
            "cameras, or their regions, at once; null: as many as are configured, at least 64, or"
            " 256 with cameras_from.topic"
        ),
    )

    def sizes(self, device: torch.device) -> BatchSizes:
        """Return the sizes as they are set, and the device's defaults for those that are null."""
        default = _CPU_SIZES
        if device.type == "cuda":
            memory_bytes = torch.cuda.get_device_properties(device).total_memory
            default = _GPU_SIZES if memory_bytes < _LARGE_GPU_BYTES else _LARGE_GPU_SIZES
        return BatchSizes(
            self.max_batch or default.max_batch, self.frames_at_once or default.frames_at_once
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
            "CUDA kernels (mixing, clip gather). auto: used if they can run; cuda: an error if they"
            " cannot run; reference: never used"
        ),
    )
    engine: EngineChoice = Field(
        "auto",
        description=(
            "what runs the network; auto: PyTorch; tensorrt: an error without a GPU or without the"
            " extra tensorrt"
        ),
    )
    cuda_graphs: bool = Field(
        True,
        description=(
            "on a GPU, PyTorch runs the network as CUDA graphs, in batches padded to 1, 2, 4, 8,"
            " ... clips"
        ),
    )
    engine_cache: Path | None = Field(
        None, description="folder of built TensorRT engines; null: ~/.cache/cidc-stream/engines"
    )
    staging: StagingChoice = Field(
        "auto",
        description=(
            "page-locked memory from which frames are copied to a GPU. auto: PyCUDA's if it works,"
            " otherwise PyTorch's; pycuda: an error if it does not work; torch: PyTorch's"
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
