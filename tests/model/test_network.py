import numpy as np
import pytest
import torch
from torch.nn import functional

from configs import ShapeError
from model import CIDCConfig, CIDCUnit, ModelConfig, build_model
from model.backbones.pool import max_pool_space, max_pool_time
from model.cidc_network import attention_map, propagate_attention

SMALL = ModelConfig(depth=18, entry="pooled", num_classes=5, width=8)


def test_pooling_is_that_of_torch() -> None:
    x = torch.randn(2, 3, 8, 9, 12).contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(
        max_pool_space(x, 3, stride=2), functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    )
    assert torch.equal(max_pool_time(x), functional.max_pool3d(x, (2, 1, 1), (2, 1, 1)))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (80, 144), (112, 96), (65, 33)])
def test_maps_have_the_sizes_of_the_paper(height: int, width: int) -> None:
    network = build_model(SMALL).eval()
    maps = network.backbone(torch.randn(1, 3, 32, height, width))
    for level, (feature, channels) in enumerate(zip(maps, (16, 32, 64), strict=True)):
        stride = 8 * 2**level
        assert feature.shape == (1, channels, 4, -(-height // stride), -(-width // stride))


def test_the_backbone_is_a_2d_net_on_every_frame() -> None:
    """A still clip must give what an independent 2D evaluation of the same weights gives."""
    torch.manual_seed(1)
    network = build_model(SMALL).eval()
    frame = torch.randn(1, 3, 64, 96)
    clip = frame.unsqueeze(2).expand(-1, -1, 32, -1, -1)
    maps = network.backbone(clip)
    weights = {
        name: value.squeeze(2) if value.dim() == 5 else value
        for name, value in network.backbone.state_dict().items()
    }

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.batch_norm(
            x,
            weights[f"{name}.running_mean"],
            weights[f"{name}.running_var"],
            weights[f"{name}.weight"],
            weights[f"{name}.bias"],
        )

    x = functional.conv2d(frame, weights["stem.conv.weight"], stride=2, padding=3)
    x = functional.max_pool2d(norm(x, "stem.norm").relu(), 3, 2, 1)
    for stage in range(4):
        for block in range(2):
            name = f"stages.{stage}.{block}"
            stride = 2 if stage and not block else 1
            y = norm(
                functional.conv2d(
                    x, weights[f"{name}.conv1.conv.weight"], stride=stride, padding=1
                ),
                f"{name}.conv1.norm",
            ).relu()
            y = norm(
                functional.conv2d(y, weights[f"{name}.conv2.conv.weight"], padding=1),
                f"{name}.conv2.norm",
            )
            if f"{name}.shortcut.conv.weight" in weights:
                x = norm(
                    functional.conv2d(x, weights[f"{name}.shortcut.conv.weight"], stride=stride),
                    f"{name}.shortcut.norm",
                )
            x = (x + y).relu()
        if stage:
            torch.testing.assert_close(
                maps[stage - 1], x.unsqueeze(2).expand(-1, -1, 4, -1, -1), atol=1e-5, rtol=1e-5
            )


def test_average_pooling_is_blind_to_the_order_of_time_and_cidc_is_not() -> None:
    torch.manual_seed(2)
    clips = (
        torch.randn(2, 3, 16, 1, 1)
        .repeat_interleave(2, dim=2)
        .expand(-1, -1, -1, 48, 48)
        .contiguous()
    )
    clips = clips + 0.3 * torch.randn(2, 3, 16, 48, 48).repeat_interleave(2, dim=2)
    pooled = build_model(SMALL.model_copy(update={"cidc": None})).eval()
    torch.testing.assert_close(pooled(clips), pooled(clips.flip(2)), atol=1e-4, rtol=1e-4)
    directed = build_model(SMALL).eval()
    assert (directed(clips) - directed(clips.flip(2))).abs().max() > 1e-3


def test_a_unit_is_mixing_then_projection_then_norm_then_relu() -> None:
    torch.manual_seed(4)
    unit = CIDCUnit(3, 4, 4, direction="uni").double().eval()
    unit.project.norm.running_mean.normal_()
    unit.project.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 2, 5, dtype=torch.float64)
    weights = unit.mixing_weights()[0].double().detach().numpy()
    mixed = np.einsum("bcthw,cst->bcshw", x.numpy(), weights)
    projected = np.einsum(
        "bcthw,oc->bothw", mixed, unit.project.conv.weight.detach().numpy()[:, :, 0, 0, 0]
    )
    mean = unit.project.norm.running_mean.numpy()
    variance = unit.project.norm.running_var.numpy()
    expected = np.maximum(
        (projected - mean[:, None, None, None]) / np.sqrt(variance + 1e-5)[:, None, None, None], 0
    )
    np.testing.assert_allclose(unit(x).detach().numpy(), expected, atol=1e-6)


def test_attention_weights_early_maps_by_the_next_later_one() -> None:
    early = torch.rand(1, 4, 2, 8, 8)
    late = torch.rand(1, 8, 2, 4, 4)
    attention = 1 / (1 + torch.exp(-late.mean(1, keepdim=True)))
    torch.testing.assert_close(attention_map(late), attention)
    attended = propagate_attention([early, late])
    frames = [
        functional.interpolate(attention[:, :, t], (8, 8), mode="bilinear", align_corners=False)
        for t in range(2)
    ]
    torch.testing.assert_close(attended[0], torch.stack(frames, dim=2) * early + early)
    assert attended[1] is late


@pytest.mark.parametrize("direction", ["none", "uni", "bi"])
@pytest.mark.parametrize("columns", [1, 3])
def test_every_parameter_learns(direction: str, columns: int) -> None:
    config = SMALL.model_copy(
        update={"cidc": CIDCConfig(direction=direction, columns=columns), "dropout": 0.0}
    )  # type: ignore[arg-type]
    network = build_model(config)
    network(torch.randn(2, 3, 32, 64, 64)).square().sum().backward()  # type: ignore[no-untyped-call]
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert not silent


@pytest.mark.parametrize(
    "shape", [(1, 3, 31, 64, 64), (1, 1, 32, 64, 64), (3, 32, 64, 64), (1, 3, 32, 16, 64)]
)
def test_wrong_clips_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"clips must be B 3 32 H W|built for clips of 32 frames"):
        build_model(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    "fields",
    [
        {"frames": 20},
        {"num_classes": 1},
        {"backbone": "x"},
        {"cidc": {"t_hidden": 3}},
        {"frames": 24},
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields)).split("_")[0]):
        ModelConfig.model_validate(fields)
