"""Probabilities at a temperature, and thresholds that were found at another one."""

import numpy as np
import pytest
import torch

from model.calibration import probabilities_of, threshold_warning
from model.detection import ActionRule, DetectionConfig

OTHER_RULE = ActionRule(enter=0.7, exit=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_a_softmax_of_the_divided_logits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = (6 * torch.randn(7, 5)).to(dtype)
    for temperature in (0.3, 1.0, 2.5):
        powers = np.exp(logits.double().numpy() / temperature)
        expected = powers / powers.sum(axis=1, keepdims=True)
        found = probabilities_of(logits, temperature)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
        assert torch.equal(found.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    ("events", "temperature", "warns"),
    [
        (DetectionConfig(), 1.0, False),
        (DetectionConfig(), 1.7, False),  # the default thresholds were found for no weights
        (DetectionConfig(default=OTHER_RULE), 1.0, False),
        (DetectionConfig(default=OTHER_RULE), 1.7, True),
        (DetectionConfig(actions={"fall": OTHER_RULE}), 1.7, True),
        (DetectionConfig(temperature=1.7), 1.7, False),
        (DetectionConfig(temperature=1.7), 1.7004, False),
        (DetectionConfig(temperature=1.7), 1.0, True),
        (DetectionConfig(temperature=1.0), 1.7, True),
    ],
)
def test_thresholds_of_another_temperature_are_named(
    events: DetectionConfig, temperature: float, warns: bool
) -> None:
    warning = threshold_warning(events, temperature)
    assert (warning is not None) == warns
    if warning is not None:
        assert f"found at temperature {events.temperature or 1:g} " in warning
        assert f"the weights have temperature {temperature:g}" in warning
        assert "train tune" in warning
