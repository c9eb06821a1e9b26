"""SlowFast against an evaluation of the same weights that follows the paper's figure and table."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from model import CIDCConfig, ModelConfig, build_model
from model.activation import newest_map
from model.network import fold_for_inference
from tests.model.test_conv import settle
from tests.support.reference_layers import State, bottleneck, conv_norm, count

LATERAL_TIME = {"slowfast_4x16": 5, "slowfast_8x8": 7}


def small(**fields: object) -> ModelConfig:
    known = {"backbone": "slowfast_4x16", "cidc": None, "width": 16, "num_classes": 5}
    return ModelConfig.model_validate(known | fields)


def reference(state: State, clips: torch.Tensor, ratio: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The last maps of the slow and of the fast pathway."""
    maps = {"slow": clips[:, :, ::ratio], "fast": clips}
    for name, x in maps.items():
        y = conv_norm(x, state, f"{name}.stem", stride=(1, 2, 2))
        maps[name] = functional.max_pool3d(y, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage in range(4):
        lateral = conv_norm(maps["fast"], state, f"laterals.{stage}", stride=(ratio, 1, 1))
        maps["slow"] = torch.cat([maps["slow"], lateral], dim=1)
        for name in maps:
            for block in range(count(state, f"{name}.stages.{stage}.")):
                stride = 2 if stage and not block else 1
                place = f"{name}.stages.{stage}.{block}"
                maps[name] = bottleneck(maps[name], state, place, stride=stride)
    return maps["slow"], maps["fast"]


@pytest.mark.parametrize(("backbone", "ratio"), [("slowfast_4x16", 8), ("slowfast_8x8", 4)])
@torch.no_grad()
def test_the_logits_are_those_of_both_pathways(backbone: str, ratio: int) -> None:
    network = settle(build_model(small(backbone=backbone)))
    clips = torch.randn(2, 3, 32, 48, 64)
    state = network.backbone.state_dict()
    slow, fast = reference(state, clips, ratio)
    assert slow.shape[2] == 32 // ratio
    assert fast.shape[2] == 32
    features = torch.cat([slow.mean(dim=(2, 3, 4)), fast.mean(dim=(2, 3, 4))], dim=1)
    expected = network.classifier(features)
    assert expected.std() > 0.05
    torch.testing.assert_close(network(clips), expected, atol=1e-4, rtol=1e-4)
    # The kernels in time are those of the paper's table 1 and of its public code.
    for pathway, times in (("slow", [1, 1, 3, 3]), ("fast", [3, 3, 3, 3])):
        kernels = [state[f"{pathway}.stages.{s}.1.conv1.conv.weight"].shape[2] for s in range(4)]
        assert kernels == times
    assert state["fast.stem.conv.weight"].shape[2:] == (5, 7, 7)
    assert state["laterals.3.conv.weight"].shape == (128 // 4 * 2, 32, LATERAL_TIME[backbone], 1, 1)


@pytest.mark.parametrize(("backbone", "time"), [("slowfast_4x16", 4), ("slowfast_8x8", 8)])
def test_the_maps_hold_both_pathways(backbone: str, time: int) -> None:
    with torch.device("meta"):
        network = build_model(small(backbone=backbone, width=64)).eval()
        maps = network.backbone(torch.empty(1, 3, 32, 224, 224))
    sizes = [(640, 28), (1280, 14), (2304, 7)]
    assert [m.shape for m in maps] == [(1, c, time, side, side) for c, side in sizes]
    assert network.backbone.channels == (640, 1280, 2304)


@torch.no_grad()
def test_without_norm_the_connections_are_linear() -> None:
    network = settle(build_model(small(depth=18, lateral_norm=False)))
    lateral = network.backbone.laterals[0]
    assert lateral.norm is None
    clips = torch.randn(1, 3, 32, 32, 32)
    before = network(clips)
    # Negative values pass: if the next stage also reads the opposite, nothing changes.
    for stage, connection in enumerate(network.backbone.laterals):
        connection.conv.weight.neg_()
        connection.conv.bias.neg_()
        channels = connection.conv.out_channels
        block = network.backbone.slow.stages[stage][0]
        block.conv1.conv.weight[:, -channels:].neg_()
        block.shortcut.conv.weight[:, -channels:].neg_()
    torch.testing.assert_close(network(clips), before, atol=1e-5, rtol=1e-5)


def test_cidc_on_top_reads_both_pathways_and_everything_learns() -> None:
    config = small(depth=18, cidc=CIDCConfig(columns=1), dropout=0.0)
    network = build_model(config)
    network(torch.randn(2, 3, 32, 64, 64)).square().sum().backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert not silent


def test_recomputed_activations_give_the_same_gradients() -> None:
    network = settle(build_model(small(depth=18, dropout=0.0)))
    clips = torch.randn(1, 3, 32, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        network.backbone.checkpointing = checkpointing
        assert network.backbone.fast.checkpointing == checkpointing
        network.zero_grad()
        network(clips).square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


@torch.no_grad()
def test_a_map_of_the_newest_sub_clip_is_drawn() -> None:
    network = settle(build_model(small(depth=18)))
    clips = torch.randn(1, 3, 32, 64, 96)
    weights = network.classifier.weight
    adds = torch.einsum(
        "c,cthw->thw", weights[1] - weights.mean(dim=0), network.backbone(clips)[-1][0]
    )
    # torch.median takes the lower of the two in the middle
    above = (adds - float(np.median(adds.numpy()))).clamp(min=0)
    found = newest_map(network, clips, 1)
    torch.testing.assert_close(
        torch.from_numpy(found), above[-1] / above.max(), atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_folding_changes_nothing(depth: int) -> None:
    network = settle(build_model(small(depth=depth, cidc=CIDCConfig(columns=1))))
    clips = torch.randn(2, 3, 32, 48, 64)
    expected = network(clips)
    folded = fold_for_inference(network, torch.float32)
    scale = expected.abs().max()
    for batch in (clips, clips.contiguous(memory_format=torch.channels_last_3d)):
        torch.testing.assert_close(folded(batch) / scale, expected / scale, atol=1e-4, rtol=0)
