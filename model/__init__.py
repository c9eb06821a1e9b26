"""What the network is and what it expects."""

from model.cidc import CIDCUnit
from model.grid import CIDCConfig
from model.mixing import directional_mask, directional_mix, directional_weights
from model.network import ActionNetwork, ModelConfig, build_model
from model.weights import ModelSpec, load_model, save_model

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
