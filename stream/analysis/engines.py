"""Chooses what runs the network: CUDA graphs, plain PyTorch or TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from configs import ConfigError
from model.checkpoints.export import onnx_of_folded
from model.checkpoints.weights import ModelSpec, load_model
from model.inference import Engine, GraphEngine, PyTorchEngine, TensorRTEngine
from model.inference.engine_cache import (
    EngineCache,
    EngineKey,
    default_folder,
    device_facts,
    file_sha256,
)
from model.inference.tensorrt_library import tensorrt_module
from model.network import ActionNetwork, fold_for_inference
from stream.analysis.config import InferConfig, weights_path
from stream.metrics import Metrics

__all__ = ["describe_engine", "open_engine"]


def open_engine(
    config: InferConfig, network: ActionNetwork, *, dtype: torch.dtype, device: torch.device
) -> Engine:
    """Return the engine that the configuration asks for, not prepared yet.

    Args:
        config: the settings.
        network: the folded network, on its device.
        dtype: data type of its convolutions.
        device: the network's device.

    Raises:
        ConfigError: TensorRT was asked for and cannot be used here.
    """
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    if config.engine == "tensorrt":
        return _tensorrt(config, spec, dtype, device)
    if device.type != "cuda" or not config.cuda_graphs:
        return PyTorchEngine(network)
    return GraphEngine(network, shape_CTHW=_shape(spec), dtype=dtype, device=device)


def describe_engine(engine: Engine, metrics: Metrics) -> dict[str, Any]:
    """Describe an engine for the summary: what was prepared, how often what ran, with padding."""
    batches = metrics.network_batches
    names = metrics.by_label(batches, "engine")
    return {
        "engine": engine.name,
        "prepared_sizes": list(engine.sizes),
        "memory_bytes": engine.memory_bytes,
        "batches": {name: metrics.by_label(batches, "size", engine=name) for name in names},
        "padded_clips": metrics.total(metrics.padded_clips),
    }


def _tensorrt(
    config: InferConfig, spec: ModelSpec, dtype: torch.dtype, device: torch.device
) -> Engine:
    if device.type != "cuda":
        raise ConfigError(
            "infer.engine: tensorrt was asked for, but the network runs on the CPU; use auto, or a"
            " machine with a GPU"
        )
    trt = tensorrt_module()
    weights = weights_path(config)

    def make_key(max_batch: int) -> EngineKey:
        gpu, driver = device_facts(device)
        return EngineKey(
            weights=file_sha256(weights),
            library=str(trt.__version__),
            device=gpu,
            driver=driver,
            precision=str(dtype).removeprefix("torch."),
            max_batch=max_batch,
        )

    return TensorRTEngine(
        trt,
        make_onnx=lambda: _onnx(weights, dtype),
        make_key=make_key,
        shape_CTHW=_shape(spec),
        classes=len(spec.labels),
        device=device,
        cache=EngineCache(config.engine_cache or default_folder()),
    )


def _onnx(weights: Path, dtype: torch.dtype) -> bytes:
    """Export a copy of the network on the CPU, where tracing uses standard operators only."""
    return onnx_of_folded(fold_for_inference(load_model(weights), dtype), dtype)


def _shape(spec: ModelSpec) -> tuple[int, int, int, int]:
    """Return the shape C T H W of a clip."""
    return 3, spec.model.frames, spec.preprocess.height, spec.preprocess.width
