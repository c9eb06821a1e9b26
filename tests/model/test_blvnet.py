"""bLVNet-TAM against an evaluation of the same weights that follows its paper and public code."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import ModelConfig, build_model
from model.activation import newest_map
from model.backbones.blvnet import TemporalAggregation
from model.network import fold_for_inference
from tests.model.test_conv import settle
from tests.support.reference_layers import State, bottleneck, conv_norm, count


def small(**fields: object) -> ModelConfig:
    known = {"backbone": "blvnet_tam", "cidc": None, "width": 8, "num_classes": 5, "frames": 8}
    return ModelConfig.model_validate(known | fields)


@torch.no_grad()
def test_aggregation_is_a_weighted_sum_of_three_frames() -> None:
    module = TemporalAggregation(3).double()
    x = torch.randn(2, 3, 5, 2, 4, dtype=torch.float64)
    frames = x.numpy()
    expected = np.zeros_like(frames)
    for t in range(5):
        for name, other in (("previous", t - 1), ("current", t), ("next", t + 1)):
            if 0 <= other < 5:
                weight = module.get_parameter(name).numpy().reshape(3, 1, 1)
                expected[:, :, t] += weight * frames[:, :, other]
    np.testing.assert_allclose(module(x).numpy(), np.maximum(expected, 0), atol=1e-12)
    folded = module.folded(torch.float64)
    np.testing.assert_allclose(folded(x).numpy(), np.maximum(expected, 0), atol=1e-12)


def aggregated(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    empty = torch.zeros_like(x[:, :, :1])
    earlier = torch.cat([empty, x[:, :, :-1]], dim=2)
    later = torch.cat([x[:, :, 1:], empty], dim=2)
    parts = ("previous", "current", "next")
    weights = [state[f"{name}.{part}"].transpose(0, 1) for part in parts]
    return torch.relu(weights[0] * earlier + weights[1] * x + weights[2] * later)


def reference(state: State, clips: torch.Tensor) -> list[torch.Tensor]:
    """The maps of stages 2 to 5."""
    x = aggregated(conv_norm(clips, state, "stem", stride=(1, 2, 2)), state, "entry.aggregate")
    big = conv_norm(x[:, :, 1::2], state, "entry.big", stride=(1, 2, 2), relu=False)
    little = conv_norm(x[:, :, ::2], state, "entry.little.0")
    little = conv_norm(little, state, "entry.little.1", stride=(1, 2, 2))
    little = conv_norm(little, state, "entry.widen", relu=False)
    x = conv_norm(torch.relu(big + little), state, "entry.merge")
    maps = []
    for stage in range(3):
        name = f"stages.{stage}"
        twice = torch.stack([x, x], dim=3).flatten(2, 3)
        both = aggregated(twice, state, f"{name}.aggregate")
        big, little = both[:, :, 1::2], both[:, :, ::2]
        blocks = count(state, f"{name}.big.")
        for block in range(blocks):
            big = bottleneck(
                big,
                state,
                f"{name}.big.{block}",
                stride=1 if block else 2,
                pooled=True,
                relu=block < blocks - 1,
            )
        for block in range(count(state, f"{name}.little.")):
            little = bottleneck(little, state, f"{name}.little.{block}")
        little = conv_norm(little, state, f"{name}.widen", relu=False)
        frames = [functional.interpolate(frame, little.shape[3:]) for frame in big.unbind(2)]
        merged = torch.relu(torch.stack(frames, dim=2) + little)
        stride = 1 if stage == 2 else 2
        x = bottleneck(merged, state, f"{name}.merge", stride=stride, pooled=True)
        maps.append(x)
    for block in range(count(state, "last.")):
        mixed = aggregated(x, state, f"last.{block}.aggregate")
        y = bottleneck(mixed, state, f"last.{block}", stride=1 if block else 2, pooled=True)
        if block:  # its shortcut adds the frames as they are; they and the result are not negative
            y = conv_norm(mixed, state, f"last.{block}.conv1")
            y = conv_norm(y, state, f"last.{block}.conv2")
            y = torch.relu(conv_norm(y, state, f"last.{block}.conv3", relu=False) + x)
        x = y
    return [*maps, x]


@pytest.mark.parametrize(("depth", "side"), [(50, 64), (101, 37)])
@torch.no_grad()
def test_the_logits_are_those_of_the_reference(depth: int, side: int) -> None:
    # In float64: with float32, the order of sums shows after a hundred layers.
    network = settle(build_model(small(depth=depth))).double()
    clips = torch.randn(2, 3, 8, side, side, dtype=torch.float64)
    maps = reference(network.backbone.state_dict(), clips)
    found = network.backbone(clips)
    for ours, theirs in zip(found, maps[1:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    expected = network.classifier(maps[-1].mean(dim=(2, 3, 4)))
    assert expected.std() > 0.05
    torch.testing.assert_close(network(clips).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_maps_have_a_position_for_each_pair_of_frames() -> None:
    with torch.device("meta"):
        network = build_model(small(width=64, frames=32)).eval()
        maps = network.backbone(torch.empty(1, 3, 32, 224, 224))
    sizes = [(512, 14), (1024, 14), (2048, 7)]
    assert [m.shape for m in maps] == [(1, c, 16, side, side) for c, side in sizes]


def test_everything_learns_and_recomputing_changes_nothing() -> None:
    network = settle(build_model(small(dropout=0.0)))
    clips = torch.randn(1, 3, 8, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        network.backbone.checkpointing = checkpointing
        network.zero_grad()
        network(clips).square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not [name for name, value in gradients[0].items() if not value.abs().sum() > 0]


@pytest.mark.parametrize("cidc", [None, {"columns": 1}])
@torch.no_grad()
def test_folding_changes_nothing(cidc: dict[str, object] | None) -> None:
    network = settle(build_model(small(cidc=cidc)))
    clips = torch.randn(2, 3, 8, 48, 64)
    expected = network(clips)
    assert newest_map(network, clips[:1], 0).shape == (2, 2)
    folded = fold_for_inference(network, torch.float32)
    scale = expected.abs().max()
    for batch in (clips, clips.contiguous(memory_format=torch.channels_last_3d)):
        torch.testing.assert_close(folded(batch) / scale, expected / scale, atol=1e-4, rtol=0)
    folded_half = fold_for_inference(settle(build_model(small())), torch.bfloat16)
    assert folded_half(clips.bfloat16()).isfinite().all()
