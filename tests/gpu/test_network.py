"""The whole network on a GPU against the same network on the CPU."""

import pytest
import torch
from torch import nn

pytest.importorskip("pydantic")
from model import ActionNetwork, CIDCConfig, ModelConfig, build_model
from model.cidc import use_mixing
from model.network import fold_for_inference

SMALL = ModelConfig(backbone="i3d", depth=18, width=16, num_classes=6, cidc=CIDCConfig())


def small_network() -> ActionNetwork:
    """Small, with the statistics of batch norm settled."""
    torch.manual_seed(5)
    network = build_model(SMALL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(4, 3, 32, 64, 64))
    return network.eval()


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper, not in the 19-bit format that PyTorch takes by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("path", ["cuda", "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
def test_a_folded_network_is_the_network(path: str, dtype: torch.dtype, tolerance: float) -> None:
    network = small_network()
    clips = torch.randn(2, 3, 32, 64, 64)
    expected = network(clips)
    folded = fold_for_inference(network, dtype).cuda()
    use_mixing(folded, path)  # type: ignore[arg-type]
    found = folded(clips.cuda().to(dtype)).float().cpu()
    torch.testing.assert_close(
        found / expected.abs().max(), expected / expected.abs().max(), atol=tolerance, rtol=0
    )


def test_a_training_step_has_the_gradients_of_plain_pytorch() -> None:
    clips = torch.randn(2, 3, 32, 64, 64, device="cuda")
    gradients = []
    for path in ("cuda", "reference"):
        network = small_network().cuda()
        use_mixing(network, path)  # type: ignore[arg-type]
        network(clips).square().sum().backward()
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    for name, found in gradients[0].items():
        expected = gradients[1][name]
        assert found is not None
        assert expected is not None
        assert (found - expected).norm() <= 5e-3 * expected.norm() + 1e-6, name
