"""Turns logits into probabilities, and compares event thresholds with the temperature they are for.

A network's softmax is usually too sure of itself. Its logits are therefore divided by a temperature
first (Guo et al., 2017, On Calibration of Modern Neural Networks). The temperature is one number in
the description of the weights. `python -m train calibrate` fits it, and so does training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.detection import ActionRule, DetectionConfig

__all__ = ["probabilities_of", "threshold_warning"]


def probabilities_of(logits_BK: Tensor, temperature: float) -> Tensor:
    """Return the class probabilities `B K` of logits in float32, on the same device.

    Args:
        logits_BK: logits in any floating-point format.
        temperature: `ModelSpec.temperature` of the weights; 1 gives the plain softmax.
    """
    return torch.softmax(logits_BK.float() / temperature, dim=1)


def threshold_warning(events: DetectionConfig, temperature: float) -> str | None:
    """Return a warning if thresholds were found at another temperature than that of the weights.

    Thresholds without a temperature count as found at 1. Nothing is said about the default
    thresholds, which were found for no weights at all.
    """
    has_own_thresholds = bool(events.actions) or events.default != ActionRule()
    if events.temperature is None and not has_own_thresholds:
        return None
    found_at = 1.0 if events.temperature is None else events.temperature
    if abs(found_at - temperature) <= 1e-3 * temperature:
        return None
    said = "events.temperature" if events.temperature is not None else "no events.temperature means"
    return (
        f"the thresholds in section events were found at temperature {found_at:g} ({said}), but the"
        f" weights have temperature {temperature:g}, so the same clips give other confidences; run"
        " `python -m train tune` again with these weights, or, if the thresholds are right, set"
        f" events.temperature: {temperature:g}"
    )
