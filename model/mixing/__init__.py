"""Directional mixing: masks, weights and the operator itself (paper, equations 1, 4 and 5)."""

from model.mixing.reference import directional_mask, directional_mix, directional_weights

__all__ = ["directional_mask", "directional_mix", "directional_weights"]
