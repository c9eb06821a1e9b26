"""Folding: the form for inference computes what the definition computes, in all forms and sizes."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import CheckpointError, ShapeError
from model import ModelConfig, build_model, load_model, save_model
from model.backbones.conv import (
    ConvNorm,
    FoldedConv,
    as_convolution,
    as_matrix_product,
    fold_network,
    fused_convolutions_work,
)
from model.backbones.stem import Stem, _stackable, stack_frames, stacked_weight
from model.mixing import FixedMixer
from model.network import fold_for_inference

LAST = torch.channels_last_3d


def settle(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Evaluation mode with batch-norm statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from([(1, 1, 1), (3, 1, 1), (1, 3, 3), (3, 3, 3)]),
    stride=st.sampled_from([1, 2]),
    channels=st.integers(1, 40),
    size=st.tuples(
        st.integers(1, 3),
        st.integers(1, 40),
        st.integers(1, 5),
        st.integers(1, 9),
        st.integers(1, 9),
    ),
    add=st.booleans(),
    relu=st.booleans(),
    norm=st.booleans(),
    last=st.booleans(),
    seed=st.integers(0, 1000),
)
@torch.no_grad()
def test_a_folded_convolution_is_the_convolution(
    kernel, stride, channels, size, add, relu, norm, last, seed
) -> None:  # type: ignore[no-untyped-def]
    batch, channels_in, *rest = size
    module = settle(
        ConvNorm(channels_in, channels, kernel, stride=(1, stride, stride), norm=norm), seed
    )
    x = torch.randn(batch, channels_in, *rest)
    x = x.contiguous(memory_format=LAST) if last else x
    plain = module(x, relu=False)
    target = torch.randn_like(plain) if add else None
    expected = plain + target if target is not None else plain
    expected = expected.relu() if relu else expected
    folded = module.folded(torch.float32)  # type: ignore[operator]
    for _ in range(2):  # the first call lays the weights out, the second uses them
        got = folded(x, add=None if target is None else target.clone(), relu=relu)
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_this_build_has_the_fused_convolutions() -> None:
    """Measured speeds need them; this build of PyTorch is pinned."""
    assert fused_convolutions_work()


@torch.no_grad()
def test_without_fused_convolutions_the_plain_ones_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    module = settle(ConvNorm(6, 7, (1, 3, 3)))
    x = torch.randn(2, 6, 3, 5, 5)
    add = torch.randn(2, 7, 3, 5, 5)
    expected = module(x, add=add)
    monkeypatch.setattr("model.backbones.conv.fused_convolutions_work", lambda: False)
    folded = module.folded(torch.float32)  # type: ignore[operator]
    assert isinstance(folded, FoldedConv)
    torch.testing.assert_close(folded(x, add=add.clone()), expected, atol=1e-5, rtol=1e-5)
    assert not folded.is_fused


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_every_form_of_a_convolution_computes_the_same(add: bool, relu: bool) -> None:
    """Whichever a shape gets, all must be right."""
    module = settle(ConvNorm(6, 7))
    x = torch.randn(2, 6, 3, 5, 4).contiguous(memory_format=LAST)
    target = torch.randn(2, 7, 3, 5, 4)
    expected = module(x, add=target.clone() if add else None, relu=relu)
    folded = module.folded(torch.float32)  # type: ignore[operator]
    for form in (as_convolution, as_matrix_product):
        if not (add and relu and form is as_matrix_product):  # never chosen for these
            got = form(folded, x)(x, target.contiguous(memory_format=LAST) if add else None, relu)
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_two_foldings_of_one_network_agree_bit_for_bit() -> None:
    torch.manual_seed(0)
    networks = [
        settle(build_model(ModelConfig(backbone="i3d", depth=50, width=16, num_classes=6)), seed=4)
        for _ in range(2)
    ]
    networks[1].load_state_dict(networks[0].state_dict())
    clips = torch.randn(2, 3, 32, 48, 64).bfloat16().contiguous(memory_format=LAST)
    one, other = (fold_for_inference(network, torch.bfloat16)(clips) for network in networks)  # type: ignore[arg-type]
    assert torch.equal(one, other)


@torch.no_grad()
def test_one_convolution_serves_calls_of_every_kind() -> None:
    module = settle(ConvNorm(6, 7))
    folded = module.folded(torch.float32)  # type: ignore[operator]
    x = torch.randn(2, 6, 3, 5, 4)
    add = torch.randn(2, 7, 3, 5, 4)
    for target in (None, add, None, add):
        for relu in (False, True, False):
            expected = module(x, add=None if target is None else target.clone(), relu=relu)
            got = folded(x, add=None if target is None else target.clone(), relu=relu)
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_the_self_test_is_not_misled_by_autocast() -> None:
    fused_convolutions_work.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert fused_convolutions_work()


@pytest.mark.parametrize("kernel_time", [1, 3, 5])
@pytest.mark.parametrize("stride_time", [1, 2, 4])
@pytest.mark.parametrize(("time", "height", "width"), [(8, 10, 12), (5, 7, 6), (1, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_stacked_frames_make_the_stem_a_2d_convolution(
    kernel_time: int, stride_time: int, time: int, height: int, width: int, dtype
) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    weight = torch.randn(4, 3, kernel_time, 7, 7)
    x = torch.randn(2, 3, time, height, width).to(dtype)
    expected = torch.nn.functional.conv3d(
        x.double(), weight.double(), stride=(stride_time, 2, 2), padding=(kernel_time // 2, 3, 3)
    )
    frames = stack_frames(
        x.contiguous(memory_format=LAST), kernel_time=kernel_time, stride_time=stride_time
    )
    got = torch.nn.functional.conv2d(
        frames.double(), stacked_weight(weight).double(), stride=(2, 1), padding=(3, 0)
    )
    got = got.unflatten(0, (2, -1)).transpose(1, 2)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_sampled_frames_are_stacked_without_a_copy() -> None:
    """Every fourth frame is a view with gaps: it must give what a copy gives, by the same code."""
    clips = torch.randn(2, 3, 32, 16, 20).contiguous(memory_format=LAST)
    sampled = clips[:, :, ::4]
    assert _stackable(sampled)
    assert not _stackable(clips.contiguous())
    expected = stack_frames(sampled.contiguous(memory_format=LAST), kernel_time=5, stride_time=1)
    assert torch.equal(stack_frames(sampled, kernel_time=5, stride_time=1), expected)
    odd_offset = torch.zeros(1 + clips.numel())[1:].view(2, 32, 16, 20, 3).permute(0, 4, 1, 2, 3)
    assert not _stackable(odd_offset)


@pytest.mark.parametrize("width", [48, 49])
@torch.no_grad()
def test_the_folded_stem_skips_the_frames_nobody_reads(width: int) -> None:
    stem = settle(Stem(8, kernel_time=5, stride_time=2, keep_every=2))
    x = torch.randn(2, 3, 16, 32, width)
    every = torch.relu(stem.norm(stem.conv(x)))  # type: ignore[operator]
    folded = stem.folded(torch.float32)  # type: ignore[operator]
    for clip in (x, x.contiguous(memory_format=LAST)):
        torch.testing.assert_close(folded(clip), every[:, :, ::2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("keep_every", [1, 2])
def test_in_training_the_stem_has_the_gradients_of_the_plain_convolution(keep_every: int) -> None:
    torch.manual_seed(0)
    stem = Stem(8, kernel_time=5, stride_time=2, keep_every=keep_every).train()
    x = torch.randn(2, 3, 16, 32, 48).contiguous(memory_format=LAST)
    stem(x).square().sum().backward()  # type: ignore[no-untyped-call]
    found = stem.conv.weight.grad
    weight = stem.conv.weight.detach().clone().requires_grad_()
    y = torch.nn.functional.conv3d(x, weight, stride=(2 * keep_every, 2, 2), padding=(2, 3, 3))
    torch.relu(
        torch.nn.functional.batch_norm(y, None, None, training=True)
    ).square().sum().backward()  # type: ignore[no-untyped-call]
    assert found is not None
    assert weight.grad is not None
    torch.testing.assert_close(
        found / found.abs().max(), weight.grad / found.abs().max(), atol=1e-4, rtol=0
    )


NETWORKS = [
    {"backbone": "i3d", "depth": 50},
    {"backbone": "r2d", "depth": 50, "non_local": True},
    {"backbone": "i3d", "entry": "pooled", "cidc": None, "non_local": True},
    {"backbone": "slow_only", "cidc": {"direction": "uni", "normalisation": "minmax"}},
    {"backbone": "tsm", "cidc": None, "head": "lstm"},
    {"backbone": "r2d", "entry": "sampled", "cidc": None, "head": "self_attention"},
    {"backbone": "tsn", "cidc": {"direction": "none", "tail": False}},
    {"backbone": "slowfast_8x8", "cidc": None, "lateral_norm": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("fields", NETWORKS, ids=lambda fields: fields["backbone"])
@torch.no_grad()
def test_a_folded_network_is_the_network(fields: dict[str, object]) -> None:
    network = build_model(
        ModelConfig.model_validate({"depth": 18, "width": 16, "num_classes": 6} | fields)
    )
    settle(network)
    for block in getattr(network.backbone, "non_local", {}).values():
        # Attention between untrained features is nearly one-hot and enlarges rounding; so it is
        # soft.
        block.theta.conv.weight.mul_(0.02)  # type: ignore[operator, union-attr]
    clips = torch.randn(3, 3, 32, 48, 64)
    expected = network(clips)
    scale = expected.abs().max()
    folded = fold_for_inference(network, torch.float32)
    for batch in (
        clips,
        clips.contiguous(memory_format=LAST),
        clips[:1].contiguous(memory_format=LAST),
    ):
        torch.testing.assert_close(
            folded(batch) / scale, expected[: len(batch)] / scale, atol=1e-4, rtol=0
        )


@pytest.mark.slow
@torch.no_grad()
def test_a_folded_network_in_bfloat16_stays_close_and_takes_other_sizes() -> None:
    network = build_model(ModelConfig(backbone="i3d", depth=18, width=16, num_classes=6))
    settle(network)
    clips = [
        torch.randn(2, 3, 32, side, side).contiguous(memory_format=LAST) for side in (64, 33, 96)
    ]
    expected = [network(clip) for clip in clips]
    folded = fold_for_inference(network, torch.bfloat16)
    for clip, logits in zip(clips, expected, strict=True):
        got = folded(clip.bfloat16())
        assert got.dtype == torch.float32
        assert ((got - logits).abs().max() / logits.abs().max()) < 0.05


def test_a_network_in_training_is_not_folded() -> None:
    with pytest.raises(ValueError, match="eval"):
        fold_network(build_model(ModelConfig(depth=18, width=8)), torch.float32)


def test_a_folded_network_is_neither_trained_nor_saved_nor_folded_again(
    tiny_weights: Path, tmp_path: Path
) -> None:
    network = load_model(tiny_weights)
    assert network.spec is not None
    with pytest.raises(ValueError, match="float64"):
        fold_for_inference(network, torch.float64)
    fold_for_inference(network, torch.float32)
    with pytest.raises(ValueError, match="folded once"):
        fold_for_inference(network, torch.float32)
    with pytest.raises(ValueError, match="cannot be trained"):
        network.train()
    with pytest.raises(CheckpointError, match="cannot be saved"):
        save_model(network, tmp_path / "x.safetensors", spec=network.spec)
    assert not network.eval().training


def test_a_mixer_takes_only_the_maps_it_was_made_for() -> None:
    mixer = FixedMixer(torch.ones(2, 3, 2, 4), torch.float32)
    with pytest.raises(ShapeError, match="weights are for C=3, T=4, but the map has C=3, T=6"):
        mixer(torch.zeros(1, 3, 6, 2, 2))
