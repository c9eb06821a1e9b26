"""Directional mixing: its masks, its weights and its operator (paper, equations 1, 4 and 5)."""

from model.mixing.choice import MixingPath, mixing_choice
from model.mixing.operator import FixedMixer, directional_mix, directional_mix_logits
from model.mixing.reference import Normalisation, directional_mask, directional_weights

__all__ = [
    "FixedMixer",
    "MixingPath",
    "Normalisation",
    "directional_mask",
    "directional_mix",
    "directional_mix_logits",
    "directional_weights",
    "mixing_choice",
]
