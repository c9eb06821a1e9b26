"""Engines, which run a network on batches of clips: plain PyTorch, CUDA graphs or TensorRT."""

from model.inference.cuda_graphs import GraphEngine
from model.inference.engine import BatchRun, Engine, EngineChoice, EngineName
from model.inference.pytorch_engine import PyTorchEngine
from model.inference.tensorrt_engine import TensorRTEngine

__all__ = [
    "BatchRun",
    "Engine",
    "EngineChoice",
    "EngineName",
    "GraphEngine",
    "PyTorchEngine",
    "TensorRTEngine",
]
