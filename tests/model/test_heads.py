"""Heads of TRN and of filter banks against their formulas."""

import itertools

import numpy as np
import pytest
import torch

from configs import ShapeError
from model import ModelConfig, build_model
from model.heads import FilterBankHead, RelationHead, tuples_of_scale
from model.network import fold_for_inference
from tests.model.test_conv import settle


def small(**fields: object) -> ModelConfig:
    known = {"backbone": "tsn", "depth": 18, "cidc": None, "width": 8, "num_classes": 5}
    return ModelConfig.model_validate(known | {"frames": 20} | fields)


def array(value: torch.Tensor) -> np.ndarray:
    return value.detach().double().numpy()


@torch.no_grad()
def test_a_relation_network_adds_the_logits_of_every_scale() -> None:
    """With the layers that the paper has: an MLP for each scale, with logits of its own."""
    torch.manual_seed(0)
    network = settle(build_model(small(head="trn_multiscale")))
    head = network.head
    assert isinstance(head, RelationHead)
    clips = torch.randn(2, 3, 20, 40, 48)
    maps = array(network.backbone(clips)[-1])
    assert maps.shape[2] == 5
    frames = maps.mean(axis=(3, 4)).transpose(0, 2, 1) @ array(head.frame.weight).T
    frames = np.maximum(frames + array(head.frame.bias), 0)
    last = array(network.classifier.weight)
    logits = np.zeros((2, 5)) + array(network.classifier.bias)
    for i, scale in enumerate((5, 4, 3, 2)):
        tuples = list(itertools.combinations(range(5), scale))
        assert tuples_of_scale(5, scale) == min(3, len(tuples))
        read = {5: [0], 4: [0, 2, 4], 3: [1, 5, 8], 2: [1, 5, 8]}[scale]
        layer = head.relations[i]
        for chosen in (tuples[number] for number in read):
            joined = np.concatenate([frames[:, t] for t in chosen], axis=1)
            hidden = np.maximum(joined @ array(layer.weight).T + array(layer.bias), 0)
            logits += hidden @ last[:, 256 * i : 256 * (i + 1)].T
    np.testing.assert_allclose(array(network(clips)), logits, atol=1e-5)
    assert head.features == 4 * 256


@torch.no_grad()
def test_a_relation_network_of_one_scale_reads_all_frames_in_order() -> None:
    head = RelationHead(6, 4, multi_scale=False).eval()
    x = torch.randn(2, 6, 4, 3, 3)
    frames = torch.relu(head.frame(x.mean(dim=(3, 4)).transpose(1, 2)))
    expected = torch.relu(head.relations[0](frames.flatten(1)))
    assert expected.shape == (2, 512)
    torch.testing.assert_close(head(x), expected)
    assert (head(x.flip(2)) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_tuples_are_drawn_in_training_and_fixed_in_evaluation() -> None:
    head = RelationHead(6, 8, multi_scale=True)
    x = torch.randn(1, 6, 8, 2, 2)
    torch.manual_seed(0)
    drawn = {tuple(head(x)[0].tolist()) for _ in range(4)}
    assert len(drawn) == 4
    torch.manual_seed(0)
    assert tuple(head(x)[0].tolist()) in drawn  # the seed decides
    head.eval()
    assert torch.equal(head(x), head(x))
    for scale in range(2, 9):
        assert len(head._tuples(scale)) == tuples_of_scale(8, scale)
        assert (head._tuples(scale).diff(dim=1) > 0).all()


def test_a_relation_network_is_built_for_one_length() -> None:
    with pytest.raises(ShapeError, match="this TRN network was built for clips of 20 frames"):
        build_model(small(head="trn")).eval()(torch.zeros(1, 3, 16, 32, 32))


@torch.no_grad()
def test_the_filter_bank_adds_three_sets_of_logits() -> None:
    network = settle(build_model(small(head="filter_bank")))
    head = network.head
    assert isinstance(head, FilterBankHead)
    clips = torch.randn(2, 3, 20, 64, 48)
    maps = array(network.backbone(clips)[-1])
    bank = array(head.bank.conv.weight)[:, :, 0, 0, 0]
    responses = np.einsum("bcthw,oc->bothw", maps, bank)
    strongest = responses.max(axis=(2, 3, 4)) + array(head.bank.conv.bias)
    votes = np.stack([strongest[:, 5 * k : 5 * k + 5].mean(axis=1) for k in range(5)], axis=1)
    weight = array(network.classifier.weight)
    expected = (
        maps.mean(axis=(2, 3, 4)) @ weight[:, : maps.shape[1]].T
        + strongest @ weight[:, maps.shape[1] :].T
        + array(network.classifier.bias)
        + votes
    )
    np.testing.assert_allclose(array(network(clips)), expected, atol=1e-4)


@pytest.mark.parametrize("head", ["trn", "trn_multiscale", "filter_bank"])
def test_heads_learn_and_fold(head: str) -> None:
    network = build_model(small(head=head, dropout=0.0))
    for _ in range(3):
        network(torch.randn(4, 3, 20, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    settle(network)
    clips = torch.randn(2, 3, 20, 32, 32)
    with torch.no_grad():
        expected = network(clips)
        folded = fold_for_inference(network, torch.float32)
        torch.testing.assert_close(folded(clips), expected, atol=1e-4, rtol=1e-4)
