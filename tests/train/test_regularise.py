"""Measures against overfitting: what each changes in clips, labels, loss and network."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import train.engine.regularise
from model import ActionNetwork, ModelConfig, build_model
from model.cidc_network import CIDCConfig, Fusion
from train.config import TrainConfig
from train.engine.regularise import augment, classification_loss, mix, start_training_mode
from train.regularisation_config import RegularisationConfig


def clips(count: int = 4, *, height: int = 24, width: int = 40) -> Tensor:
    """Return smooth random clips, so that interpolation changes them little."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.normal(size=(count * 3, 1, 5, 8)).astype(np.float32))
    large = nn.functional.interpolate(small, (height, width), mode="bicubic")
    still = large.view(count, 3, 1, height, width)
    return still * torch.linspace(1, 2, 6).view(1, 1, 6, 1, 1)


def test_nothing_changes_by_default() -> None:
    given = clips()
    assert augment(given, RegularisationConfig()) is given


def test_clips_and_labels_are_blended_by_the_same_fractions() -> None:
    torch.manual_seed(1)
    labels_B = torch.arange(16)
    given = labels_B.float().view(-1, 1, 1, 1, 1).expand(16, 3, 2, 4, 4)
    mixed = mix(given, labels_B, 0.4)
    assert mixed.weights_B.min() >= 0.5
    assert mixed.weights_B.max() <= 1
    assert (mixed.weights_B < 0.95).any()
    assert sorted(mixed.other_labels_B.tolist()) == labels_B.tolist()
    values = mixed.weights_B * labels_B + (1 - mixed.weights_B) * mixed.other_labels_B
    expected = values.view(-1, 1, 1, 1, 1).expand_as(given)
    torch.testing.assert_close(mixed.clips_BCTHW, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_with_the_blended_targets(smoothing: float) -> None:
    torch.manual_seed(2)
    logits_BK = torch.randn(6, 5)
    labels_B = torch.tensor([0, 1, 2, 3, 4, 0])
    mixed = mix(torch.zeros(6, 3, 1, 2, 2), labels_B, 1.0)
    weights = mixed.weights_B.unsqueeze(1)
    targets = weights * torch.eye(5)[labels_B]
    targets += (1 - weights) * torch.eye(5)[mixed.other_labels_B]
    targets = (1 - smoothing) * targets + smoothing / 5
    expected = -(targets * logits_BK.log_softmax(1)).sum(1).mean()
    found = classification_loss(logits_BK, labels_B, mixed, label_smoothing=smoothing)
    assert found.item() == pytest.approx(expected.item())
    plain = classification_loss(logits_BK, labels_B, None, label_smoothing=0.0)
    assert plain.item() == pytest.approx(
        -logits_BK.log_softmax(1)[torch.arange(6), labels_B].mean().item()
    )


def test_frames_are_rotated_and_stretched_as_opencv_does_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train.engine.regularise, "_uniform", lambda count, _: torch.ones(count))
    given = clips(2)
    found = augment(given, RegularisationConfig(rotation_degrees=12, stretch=0.2))
    height, width = given.shape[3:]
    angle = math.radians(12)
    # A pixel of the result shows the pixel at `turn` times its distance from the centre.
    turn = np.diag([1.25, 1.25]) @ [
        [math.cos(angle), -math.sin(angle)],
        [math.sin(angle), math.cos(angle)],
    ]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([turn, centre - turn @ centre])
    for clip, moved in zip(given, found, strict=True):
        for frame in range(given.shape[2]):
            expected = cv2.warpAffine(
                np.ascontiguousarray(clip[:, frame].permute(1, 2, 0).numpy()),
                matrix,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            # OpenCV interpolates at 1/32 of a pixel.
            np.testing.assert_allclose(
                moved[:, frame].permute(1, 2, 0).numpy(), expected, atol=0.06
            )
    assert (found - given).abs().max() > 0.5


def test_colours_change_alike_in_all_pixels_of_a_clip_and_differently_between_clips() -> None:
    torch.manual_seed(3)
    grey = clips(3)[:, :1].expand(3, 3, 6, 24, 40)
    found = augment(grey, RegularisationConfig(colour=0.5))
    slopes = []
    for before, after in zip(grey.flatten(2), found.flatten(2), strict=True):
        for channel in range(3):
            slope, offset = np.polyfit(before[channel].numpy(), after[channel].numpy(), 1)
            torch.testing.assert_close(
                after[channel], before[channel] * slope + offset, rtol=1e-4, atol=1e-4
            )
            assert 0.5 <= slope <= 1.5
        slopes.append(slope)
    assert len({round(float(slope), 3) for slope in slopes}) == 3


def small_network(fusion: Fusion = "time") -> ActionNetwork:
    torch.manual_seed(4)
    config = ModelConfig(
        depth=18,
        width=8,
        num_classes=3,
        dropout=0,
        frames=16,
        cidc=CIDCConfig(columns=1, tail=False, fusion=fusion),
    )
    return build_model(config)


@pytest.mark.parametrize("fusion", ["time", "sum", "channels"])
def test_a_dropped_branch_leaves_twice_the_other(fusion: Fusion) -> None:
    network = small_network(fusion).eval()
    given = torch.randn(8, 3, 16, 32, 32)
    with torch.no_grad():
        maps = network.backbone(given)
        assert network.cidc is not None
        last, mixed = (x.mean(dim=(2, 3, 4)) for x in (maps[-1], network.cidc(maps)))
        zero = torch.zeros_like(last)
        pairs = [(2 * last, zero), (zero, 2 * mixed), (last, mixed)]
        if fusion == "channels":
            features = [torch.cat(pair, dim=1) for pair in pairs]
        else:
            features = [(a + b) / (2 if fusion == "time" else 1) for a, b in pairs]
        choices = torch.stack([network.classifier(each) for each in features])
        torch.testing.assert_close(network(given), choices[2])
        network.branch_dropout = 1.0
        torch.testing.assert_close(network(given), choices[2])  # evaluation drops nothing
        network.training = True  # only the network itself: batch norms stay as they are
        found = network(given)
    distances = (choices - found).abs().amax(dim=2)
    assert distances[:2].min(dim=0).values.max() < 1e-4
    assert set(distances[:2].argmin(dim=0).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("start", "frozen"), [("weights_from", "all"), ("backbone_from", "backbone"), (None, "none")]
)
def test_norms_with_given_weights_keep_their_statistics(
    config: TrainConfig, start: str | None, frozen: str
) -> None:
    changes: dict[str, object] = {"regularisation": RegularisationConfig(freeze_norms=True)}
    if start is not None:
        changes[start] = config.out
    network = small_network()
    start_training_mode(network, config.model_copy(update=changes))
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(2, 3, 16, 32, 32)).sum().backward()
    for name, value in network.named_buffers():
        is_frozen = frozen == "all" or (frozen == "backbone" and name.startswith("backbone."))
        assert torch.equal(value, before[name]) == is_frozen, name
    assert all(weights.grad is not None for weights in network.backbone.parameters())
