"""Class activation: its sum against the logits, and its places against a network with one place."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import CIDCConfig, ModelConfig, build_model, load_model
from model.activation import network_maps, newest_map
from model.activation.class_activation import class_activation, evidence, rows_of_sub_clips
from model.network import fold_for_inference
from train.evaluation.attention import cidc_part

SMALL = {"backbone": "slow_only", "depth": 18, "width": 8, "num_classes": 5, "frames": 32}
CIDC = {"columns": 1, "t_hidden": 2, "tail": False, "scales": "multi"}
CLIPS = torch.randn(1, 3, 32, 64, 96, generator=torch.Generator().manual_seed(0))


def network_of(**settings: object) -> torch.nn.Module:
    torch.manual_seed(1)
    network = build_model(ModelConfig.model_validate(SMALL | settings)).eval()
    torch.nn.init.normal_(network.classifier.weight)
    torch.nn.init.normal_(network.classifier.bias)
    return network


@pytest.mark.parametrize(
    "settings",
    [
        {"cidc": None},
        *({"cidc": CIDC | {"fusion": fusion}} for fusion in ("time", "channels", "sum")),
        {"cidc": CIDC | {"direction": "uni"}},
    ],
)
def test_the_sum_of_a_class_activation_is_the_logit(settings: dict[str, object]) -> None:
    network = network_of(**settings)
    found = network_maps(network, CLIPS)  # type: ignore[arg-type]
    bias_K = network.classifier.bias.detach()  # type: ignore[union-attr]
    summands = found.logits_K - bias_K
    for action in range(5):
        activation = class_activation(network, found.last_CTHW, found.cidc_CTHW, action)  # type: ignore[arg-type]
        assert activation.shape == (8, 2, 3)
        expected = float(summands[action] - summands.mean())
        assert float(activation.sum()) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_part_of_cidc_is_what_its_map_adds() -> None:
    network = network_of(cidc=CIDC | {"fusion": "channels"})
    found = network_maps(network, CLIPS)  # type: ignore[arg-type]
    weight_KC = network.classifier.weight.detach()  # type: ignore[union-attr]
    weight_C = weight_KC[3] - weight_KC.mean(dim=0)
    assert found.cidc_CTHW is not None
    pooled_2C = torch.stack([found.last_CTHW.mean((1, 2, 3)), found.cidc_CTHW.mean((1, 2, 3))])
    first, second = (pooled_2C * weight_C.view(2, -1)).sum(dim=1).tolist()
    assert cidc_part(found, 3) == pytest.approx(second / (first + second), rel=1e-3)


def test_only_the_place_that_is_changed_changes() -> None:
    network = network_of(cidc=None)
    last_CTHW = torch.zeros(64, 8, 2, 3)
    last_CTHW[7, 4, 1, 2] = 3.0
    activation = class_activation(network, last_CTHW, None, 2)  # type: ignore[arg-type]
    weight_KC = network.classifier.weight.detach()  # type: ignore[union-attr]
    places = 8 * 2 * 3
    expected = 3.0 * float(weight_KC[2, 7] - weight_KC[:, 7].mean()) / places
    assert activation[4, 1, 2] == pytest.approx(expected, rel=1e-5)
    assert np.count_nonzero(activation) == 1


def test_folding_does_not_change_the_evidence(tiny_weights: Path) -> None:
    network = load_model(tiny_weights)
    assert network.spec is not None
    framing = network.spec.preprocess
    clip = torch.randn(1, 3, network.config.frames, framing.height, framing.width)
    plain = network_maps(network, clip).evidence(3)
    folded = network_maps(fold_for_inference(network, torch.float32), clip).evidence(3)
    assert plain is not None
    assert folded is not None
    np.testing.assert_allclose(plain, folded, atol=1e-3)


def test_a_head_that_does_not_average_falls_back_to_attention() -> None:
    network = network_of(cidc=None, head="lstm")
    found = network_maps(network, CLIPS)  # type: ignore[arg-type]
    assert found.evidence(0) is None
    newest = newest_map(network, CLIPS, 0)  # type: ignore[arg-type]
    attention = found.attention()
    span = attention.max() - attention.min()
    np.testing.assert_allclose(newest, (attention[-1] - attention.min()) / span, atol=1e-5)


def test_evidence_is_what_exceeds_the_median() -> None:
    values = np.array([[[-5.0, 1.0, 1.0], [1.0, 2.0, 5.0]]], np.float32)
    np.testing.assert_allclose(evidence(values), [[[0, 0, 0], [0, 0.25, 1.0]]])
    assert not evidence(np.full((2, 3, 5), 0.7, np.float32)).any()


def test_magnitude_is_high_where_signed_channels_cancel() -> None:
    network = network_of(cidc=CIDC)
    found = network_maps(network, CLIPS)  # type: ignore[arg-type]
    cidc = torch.zeros_like(found.cidc_CTHW)  # type: ignore[arg-type]
    cidc[0, :, 1, 1], cidc[1, :, 1, 1] = 4.0, -9.0
    changed = type(found)(found.network, found.logits_K, found.last_CTHW, cidc)
    magnitude, attention = changed.cidc_magnitude(), changed.cidc_attention()
    assert magnitude is not None
    assert attention is not None
    assert np.unravel_index(magnitude.sum(axis=0).argmax(), (2, 3)) == (1, 1)
    assert np.unravel_index(attention.sum(axis=0).argmin(), (2, 3)) == (1, 1)


@pytest.mark.parametrize("time", [2, 4, 8])
def test_rows_are_divided_symmetrically(time: int) -> None:
    weights = rows_of_sub_clips("bi", time)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    half = time // 2
    # Read backwards, the clip's forward rows are its backward rows.
    np.testing.assert_allclose(
        weights[::-1], np.concatenate([weights[:, half:], weights[:, :half]], axis=1), atol=1e-6
    )
    assert np.array_equal(rows_of_sub_clips("uni", time), np.eye(time))


def test_the_default_cidc_network_has_no_negative_values() -> None:
    """Its last unit ends with a ReLU, so there magnitude and mean are the same map."""
    network = network_of(cidc=CIDCConfig(columns=1, t_hidden=2).model_dump())
    found = network_maps(network, CLIPS)  # type: ignore[arg-type]
    assert found.cidc_CTHW is not None
    assert float(found.cidc_CTHW.min()) >= 0
