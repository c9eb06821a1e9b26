"""The whole network on a GPU against the same network on the CPU."""

import pytest
import torch
from torch import nn

pytest.importorskip("pydantic")
from model import ActionNetwork, CIDCConfig, ModelConfig, build_model
from model.cidc import use_mixing
from model.network import fold_for_inference

SMALL = ModelConfig(backbone="i3d", depth=18, width=16, num_classes=6, cidc=CIDCConfig())
RIVALS: list[dict[str, object]] = [
    {"backbone": "slowfast_4x16"},
    {"backbone": "slowfast_8x8", "cidc": None, "head": "filter_bank"},
    {"backbone": "blvnet_tam", "depth": 50, "cidc": None},
    {"backbone": "tsn", "cidc": None, "head": "trn_multiscale"},
]


def small_network(config: ModelConfig = SMALL) -> ActionNetwork:
    """Small, with the statistics of batch norm settled."""
    torch.manual_seed(5)
    network = build_model(config)
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


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("fields", RIVALS, ids=lambda fields: fields["backbone"])
def test_rivals_in_a_cuda_graph_are_themselves(fields: dict[str, object]) -> None:
    config = ModelConfig.model_validate(SMALL.model_dump() | fields)
    network = small_network(config)
    clips = torch.randn(2, 3, 32, 64, 64)
    expected = network(clips)
    folded = fold_for_inference(network, torch.float32).cuda()
    still = clips.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        folded(still)  # kernels are chosen and compiled before the capture
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = folded(still)
    graph.replay()
    scale = expected.abs().max()
    torch.testing.assert_close(found.cpu() / scale, expected / scale, atol=2e-3, rtol=0)


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
