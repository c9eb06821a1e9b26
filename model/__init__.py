"""The network, its weights, and the preparation of its input clips.

Each name is imported when it is first used, so a program that uses only the kernels needs only
PyTorch, NumPy and CuPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cidc_programs import check_packages

check_packages(__file__, "configs")

if TYPE_CHECKING:
    from model.checkpoints.weights import load_model, save_model
    from model.cidc import CIDCUnit
    from model.cidc_network import CIDCConfig
    from model.config import ModelConfig
    from model.mixing import directional_mask, directional_mix, directional_weights
    from model.network import ActionNetwork, build_model
    from model.spec import ModelSpec

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
    "ModelConfig": "model.config",
    "ModelSpec": "model.spec",
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
