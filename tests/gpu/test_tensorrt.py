"""TensorRT's engine against the network in PyTorch, both on the GPU."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("pydantic")
from model import ModelSpec
from model.checkpoints.export import onnx_of_folded
from model.device_streams import DeviceStream
from model.inference import TensorRTEngine
from model.inference.engine_cache import EngineCache, EngineKey, device_facts
from model.inference.tensorrt_library import tensorrt_module, why_not_tensorrt
from model.media.preprocess import PreprocessConfig
from model.network import ActionNetwork, fold_for_inference
from tests.gpu.test_network import small_network

SHAPE = (3, 32, 64, 64)
GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _needs_tensorrt() -> None:
    if (reason := why_not_tensorrt()) == "TensorRT is not installed":
        pytest.skip("TensorRT is not installed")
    assert not reason


def described() -> ActionNetwork:
    network = small_network()
    network.spec = ModelSpec(
        name="small",
        model=network.config,
        labels=tuple("abcdef"),
        preprocess=PreprocessConfig(short_side=64, height=64, width=64),
    )
    return network


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-2), (torch.bfloat16, 5e-2)])
def test_the_engine_gives_what_pytorch_gives(
    dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    trt = tensorrt_module()
    expected_of = described().to(GPU)
    exports: list[bytes] = []

    def export() -> bytes:
        exports.append(onnx_of_folded(fold_for_inference(described(), dtype), dtype))
        return exports[-1]

    def key(max_batch: int) -> EngineKey:
        facts = device_facts(GPU)
        return EngineKey("small", trt.__version__, *facts, str(dtype), max_batch)

    for _ in range(2):
        engine = TensorRTEngine(
            trt,
            make_onnx=export,
            make_key=key,
            shape_CTHW=SHAPE,
            classes=6,
            device=GPU,
            cache=EngineCache(tmp_path),
        )
        with DeviceStream(GPU):
            engine.prepare(4)
            for count in (1, 3, 4, 2):
                batch = torch.randn(count, *SHAPE, device=GPU)
                found = engine(batch.to(dtype, memory_format=torch.channels_last_3d))
                expected = expected_of(batch)
                largest = expected.abs().max()
                torch.testing.assert_close(
                    found / largest, expected / largest, atol=tolerance, rtol=0
                )
    # The second engine came from the cache.
    assert len(exports) == 1
    assert engine.memory_bytes > 0
