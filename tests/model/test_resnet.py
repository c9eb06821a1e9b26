"""Backbones, non-local blocks and heads against independent evaluations of the same weights."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from configs import ShapeError
from model import CIDCConfig, ModelConfig, build_model
from model.backbones.blocks import shift_time
from model.backbones.non_local import NonLocalBlock, non_local_blocks
from model.backbones.table import BACKBONES, STAGE_BLOCKS
from model.cidc_network import propagate_attention
from model.heads import LSTMHead, SelfAttentionHead
from tests.model.test_conv import settle

RESIDUAL = sorted(name for name, backbone in BACKBONES.items() if backbone.takes_non_local)


@pytest.mark.parametrize("backbone", RESIDUAL)
@pytest.mark.parametrize("depth", sorted(STAGE_BLOCKS))
@pytest.mark.parametrize("non_local", [False, True])
def test_every_backbone_reaches_the_sizes_of_the_paper(
    backbone: str, depth: int, non_local: bool
) -> None:
    config = ModelConfig.model_validate(
        {"backbone": backbone, "depth": depth, "non_local": non_local, "cidc": None}
    )
    with torch.device("meta"), torch.no_grad():
        network = build_model(config).eval()
        maps = network.backbone(torch.empty(2, 3, 32, 224, 224))
        time = 4 if backbone in ("r2d", "i3d") else 8
        expansion = 1 if depth == 18 else 4
        expected = [(2, expansion * 128 * 2**i, time, 28 // 2**i, 28 // 2**i) for i in range(3)]
        assert [tuple(m.shape) for m in maps] == expected
        assert network(torch.empty(2, 3, 32, 224, 224)).shape == (2, 400)
        assert len(network.backbone.non_local) == (0 if not non_local else 4 if depth == 18 else 5)


@pytest.mark.parametrize(
    ("depth", "pattern"),
    [(50, ["111", "1010", "101010", "010"]), (101, ["111", "1010", "10" * 11 + "1", "010"])],
)
def test_i3d_is_inflated_where_the_public_nets_are(depth: int, pattern: list[str]) -> None:
    network = build_model(
        ModelConfig.model_validate({"backbone": "i3d", "depth": depth, "cidc": None, "width": 8})
    )
    found = [
        "".join(str(int(block.conv1.conv.kernel_size[0] == 3)) for block in stage)
        for stage in network.backbone.stages
    ]  # type: ignore[union-attr]
    assert found == pattern


def test_non_local_blocks_are_where_the_public_nets_have_them() -> None:
    assert [non_local_blocks(n, s) for s, n in enumerate(STAGE_BLOCKS[50])] == [
        (),
        (1, 3),
        (1, 3, 5),
        (),
    ]
    assert [non_local_blocks(n, s) for s, n in enumerate(STAGE_BLOCKS[101])] == [
        (),
        (1, 3),
        (6, 13, 20),
        (),
    ]


@pytest.mark.parametrize("pool", ["before", "after", "none"])
@torch.no_grad()
def test_a_non_local_block_is_its_formula(pool: str) -> None:
    """In float64 NumPy: y = x + norm(out(softmax(theta phi / sqrt(d)) g))."""
    block = settle(NonLocalBlock(6, pool=pool)).double()  # type: ignore[arg-type]
    x = torch.randn(2, 6, 3, 4, 6, dtype=torch.float64)

    def project(values: np.ndarray, conv: torch.nn.Conv3d) -> np.ndarray:
        assert conv.bias is not None
        return (
            np.einsum("bcthw,oc->bothw", values, conv.weight.numpy()[:, :, 0, 0, 0])
            + conv.bias.numpy()[:, None, None, None]
        )

    def halve(values: np.ndarray) -> np.ndarray:
        b, c, t, h, w = values.shape
        return values.reshape(b, c, t, h // 2, 2, w // 2, 2).max(axis=(4, 6))

    source = x.numpy()
    pooled = halve(source) if pool == "before" else source
    theta, phi, g = (
        project(v, getattr(block, n).conv)
        for v, n in ((source, "theta"), (pooled, "phi"), (pooled, "g"))
    )
    if pool == "after":
        phi = halve(phi)
        g = halve(g)
    theta, phi, g = (v.reshape(2, 3, -1) for v in (theta, phi, g))
    weights = np.exp(np.einsum("bcn,bcm->bnm", theta, phi) / np.sqrt(3))
    weights /= weights.sum(axis=2, keepdims=True)
    mixed = np.einsum("bnm,bcm->bcn", weights, g).reshape(2, 3, 3, 4, 6)
    norm = block.out.norm
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).numpy()[:, None, None, None]
    out = (
        project(mixed, block.out.conv) - norm.running_mean.numpy()[:, None, None, None]
    ) * scale + norm.bias.numpy()[:, None, None, None]
    np.testing.assert_allclose(block(x).numpy(), source + out, atol=1e-10)


def test_the_shift_moves_an_eighth_each_way() -> None:
    x = torch.randn(2, 16, 5, 2, 3)
    y = shift_time(x)
    assert torch.equal(y[:, :2, :-1], x[:, :2, 1:])
    assert torch.equal(y[:, 2:4, 1:], x[:, 2:4, :-1])
    assert torch.equal(y[:, 4:], x[:, 4:])
    assert not y[:, :2, -1].any()
    assert not y[:, 2:4, 0].any()


@torch.no_grad()
def test_tsn_is_the_average_over_frames_and_tsm_is_not() -> None:
    """The logits of averaged features are the average of the frames' logits, for TSN only."""
    clips = torch.randn(2, 3, 32, 64, 64)
    tsn = settle(
        build_model(ModelConfig(backbone="tsn", depth=18, width=8, cidc=None, num_classes=4))
    )
    alone = torch.stack(
        [tsn(frame.unsqueeze(2).expand(-1, -1, 32, -1, -1)) for frame in clips[:, :, ::4].unbind(2)]
    ).mean(dim=0)
    torch.testing.assert_close(tsn(clips), alone, atol=1e-4, rtol=1e-4)
    shuffled = clips[:, :, ::4].flip(2).repeat_interleave(4, dim=2)
    torch.testing.assert_close(tsn(shuffled), tsn(clips), atol=1e-4, rtol=1e-4)
    tsm = settle(
        build_model(ModelConfig(backbone="tsm", depth=18, width=8, cidc=None, num_classes=4))
    )
    assert (tsm(clips) - tsm(shuffled)).abs().max() > 1e-3


@torch.no_grad()
def test_the_lstm_head_is_an_lstm_over_pooled_frames() -> None:
    torch.manual_seed(0)
    head = LSTMHead(6, hidden=5)
    x = torch.randn(2, 6, 4, 3, 3)
    state = [(torch.zeros(2, 5), torch.zeros(2, 5)) for _ in range(2)]
    for frame in x.unbind(2):
        y = frame.mean(dim=(2, 3))
        for layer in range(2):
            weights = {
                name: getattr(head.lstm, f"{name}_l{layer}")
                for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            }
            h, c = state[layer]
            gates = (
                y @ weights["weight_ih"].T
                + weights["bias_ih"]
                + h @ weights["weight_hh"].T
                + weights["bias_hh"]
            )
            i, f, g, o = gates.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            y = torch.sigmoid(o) * torch.tanh(c)
            state[layer] = (y, c)
    torch.testing.assert_close(head(x), torch.cat([x.mean(dim=(2, 3, 4)), y], dim=1))
    assert LSTMHead(2048).lstm.hidden_size == 512


@torch.no_grad()
def test_the_self_attention_head_is_torchs_multi_head_attention() -> None:
    torch.manual_seed(0)
    head = SelfAttentionHead(16, layers=1, heads=4)
    x = torch.randn(2, 16, 2, 3, 3)
    layer = head.layers[0]
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    parts = [layer.query.conv, layer.key.conv, layer.value.conv]  # type: ignore[union-attr]
    theirs.in_proj_weight.copy_(torch.cat([part.weight[:, :, 0, 0, 0] for part in parts]))  # type: ignore[union-attr]
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))  # type: ignore[union-attr]
    theirs.out_proj.weight.copy_(layer.out.conv.weight[:, :, 0, 0, 0])  # type: ignore[union-attr]
    theirs.out_proj.bias.copy_(layer.out.conv.bias)  # type: ignore[union-attr]
    places = x.flatten(2).transpose(1, 2)
    mixed = functional.layer_norm(
        theirs(places, places, places)[0] + places, (16,), layer.norm.weight, layer.norm.bias
    )  # type: ignore[union-attr]
    expected = torch.cat([places, mixed], dim=1).mean(dim=1)
    torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=1e-5)
    assert len(SelfAttentionHead(64).layers) == 2


@pytest.mark.slow
@torch.no_grad()
def test_the_three_fusions_are_their_definitions() -> None:
    networks = {}
    for fusion in ("time", "channels", "sum"):
        torch.manual_seed(3)
        config = ModelConfig.model_validate(
            {"depth": 18, "width": 8, "num_classes": 4, "cidc": {"fusion": fusion}}
        )
        networks[fusion] = settle(build_model(config))
    clips = torch.randn(2, 3, 32, 64, 64)
    for fusion, network in networks.items():
        maps = network.backbone(clips)  # type: ignore[operator]
        # type: ignore[operator]
        last = maps[-1]
        mixed = network.cidc(maps)
        assert mixed.shape == last.shape
        joined = (
            last + mixed
            if fusion == "sum"
            else torch.cat([last, mixed], dim=2 if fusion == "time" else 1)
        )
        expected = network.classifier(joined.mean(dim=(2, 3, 4)))  # type: ignore[operator]
        torch.testing.assert_close(network(clips), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_scales_of_table_4a() -> None:
    networks = {}
    for scales in ("single", "multi", "multi_attention"):
        torch.manual_seed(0)
        networks[scales] = settle(
            build_model(
                ModelConfig.model_validate({"depth": 18, "width": 8, "cidc": {"scales": scales}})
            )
        ).cidc
    maps = [torch.randn(1, 16 * 2**i, 4, 8 // 2**i, 8 // 2**i).relu() for i in range(3)]
    before = [m.clone() for m in maps]
    results = {name: cidc(maps) for name, cidc in networks.items()}  # type: ignore[operator]
    assert all(torch.equal(m, b) for m, b in zip(maps, before, strict=True))
    other = [maps[0] + 1, maps[1], maps[2]]
    moved = {
        name: float((cidc(other) - results[name]).abs().max()) > 1e-4
        for name, cidc in networks.items()
    }  # type: ignore[operator]
    assert moved == {"single": False, "multi": True, "multi_attention": True}
    torch.testing.assert_close(
        networks["multi"](propagate_attention(maps)), results["multi_attention"]
    )  # type: ignore[operator]
    assert (results["multi"] - results["multi_attention"]).abs().max() > 1e-3


def test_the_paper_and_longer_maps_get_their_own_number_of_columns() -> None:
    assert CIDCConfig().columns_for(4) == 4
    assert CIDCConfig().columns_for(8) == 2
    assert CIDCConfig(columns=3).columns_for(8) == 3


@pytest.mark.parametrize(("frames", "side"), [(8, 32), (64, 40), (16, 97)])
def test_clips_of_any_length_the_strides_allow(frames: int, side: int) -> None:
    network = build_model(
        ModelConfig(backbone="i3d", depth=18, width=8, cidc=None, num_classes=3)
    ).eval()
    assert network(torch.randn(1, 3, frames, side, side)).shape == (1, 3)


@pytest.mark.parametrize(
    ("frames", "says"), [(12, "multiple of 8, got 12"), (0, "multiple of 8, got 0")]
)
def test_clips_of_other_lengths_are_named(frames: int, says: str) -> None:
    network = build_model(ModelConfig(backbone="r2d", depth=18, width=8, cidc=None)).eval()
    with pytest.raises(ShapeError, match=says):
        network(torch.randn(1, 3, frames, 32, 32))


def test_a_cidc_network_is_built_for_one_length() -> None:
    with pytest.raises(ShapeError, match="built for clips of 32 frames, got 16"):
        build_model(ModelConfig(depth=18, width=8)).eval()(torch.randn(1, 3, 16, 32, 32))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"head": "lstm"}, "set cidc to null"),
        ({"backbone": "tsn", "entry": "strided", "cidc": None}, "only the entry 'sampled'"),
        ({"backbone": "slow_only", "frames": 30, "cidc": None}, "multiple of 4 for slow_only"),
        ({"backbone": "slow_only", "frames": 36}, "multiple of 8 for slow_only with direction bi"),
        ({"depth": 34}, "18"),
        ({"backbone": "slowfast_8x8", "non_local": True}, "slowfast_8x8 has no non-local blocks"),
        ({"backbone": "slowfast_4x16", "entry": "pooled"}, "slowfast_4x16 has only the entry"),
        ({"backbone": "slowfast_4x16", "frames": 24}, "multiple of 16 for slowfast_4x16"),
        ({"backbone": "blvnet_tam", "depth": 18}, "blvnet_tam has depth 50 or 101, got 18"),
        ({"backbone": "blvnet_tam", "entry": "sampled"}, "only the entry null"),
        ({"backbone": "blvnet_tam", "cidc": None, "frames": 9}, "multiple of 2 for blvnet_tam"),
        ({"cidc": None, "head": "trn", "frames": 8}, "'trn' relates 2 to 16 time positions"),
        (
            {"backbone": "tsn", "cidc": None, "head": "trn_multiscale", "frames": 80},
            "tsn has 20 for 80 frames",
        ),
        ({"cidc": {"fusion": "max"}}, "time"),
    ],
)
def test_impossible_networks_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ModelConfig.model_validate(fields)


@pytest.mark.slow
def test_recomputing_activations_changes_nothing() -> None:
    torch.manual_seed(0)
    network = build_model(
        ModelConfig(backbone="i3d", depth=18, width=8, num_classes=4, non_local=True, dropout=0.0)
    )
    settle(network).train()
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    clips = torch.randn(2, 3, 32, 48, 48)
    gradients = []
    states = []
    for checkpointing in (False, True):
        network.load_state_dict(fresh)
        network.backbone.checkpointing = checkpointing
        network.zero_grad()
        network(clips).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    torch.testing.assert_close(states[0], states[1])
    assert len(gradients[0]) == len(gradients[1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
