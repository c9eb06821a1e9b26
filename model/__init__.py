"""What the network is and what it expects.

Names are loaded when they are first asked for: the kernels then need PyTorch, NumPy and CuPy,
nothing else of what the project uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.checkpoints.weights import ModelSpec, load_model, save_model
    from model.cidc import CIDCUnit
    from model.cidc_network import CIDCConfig
    from model.mixing import directional_mask, directional_mix, directional_weights
    from model.network import ActionNetwork, ModelConfig, build_model

__all__ = [
    "ActionNetwork",
    "CIDCConfig",
    "CIDCUnit",
    "ModelConfig",
    "ModelSpec",
    "build_model",
    "directional_mask",
    "directional_mix",
    "directional_weights",
    "load_model",
    "save_model",
]

_HOME = {
    "ActionNetwork": "model.network",
    "CIDCConfig": "model.cidc_network",
    "CIDCUnit": "model.cidc",
    "ModelConfig": "model.network",
    "ModelSpec": "model.checkpoints.weights",
    "build_model": "model.network",
    "directional_mask": "model.mixing",
    "directional_mix": "model.mixing",
    "directional_weights": "model.mixing",
    "load_model": "model.checkpoints.weights",
    "save_model": "model.checkpoints.weights",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'model' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
