"""TensorRT's engine with ONNX Runtime in the place of TensorRT: it shares nothing with PyTorch."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model import ActionNetwork, CIDCConfig
from model.checkpoints.export import onnx_of_folded
from model.inference import BatchRun, TensorRTEngine
from model.inference.engine_cache import EngineCache, EngineKey
from model.network import fold_for_inference
from tests.model.test_export import network as exportable
from tests.support.fake_tensorrt import FakeTensorRT
from tests.support.onnx_numbers import run_onnx

pytestmark = pytest.mark.slow

SHAPE = (3, 32, 48, 64)
# The logits' largest difference, as a fraction of the largest logit.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 4e-2}


def small_network() -> ActionNetwork:
    """Return a network whose export is quick; all three scales and both directions are in it."""
    return exportable(entry="pooled", cidc=CIDCConfig(columns=1, tail=False))


@pytest.fixture(scope="module")
def exported() -> bytes:
    return onnx_of_folded(fold_for_inference(small_network(), torch.float32), torch.float32)


@pytest.fixture(scope="module")
def exported_in_bfloat16() -> bytes:
    return onnx_of_folded(fold_for_inference(small_network(), torch.bfloat16), torch.bfloat16)


def clips(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randn(count, *SHAPE, generator=generator)
    return drawn.contiguous(memory_format=torch.channels_last_3d)


def key(max_batch: int) -> EngineKey:
    return EngineKey("weights", "11.4", "GPU", "driver", "float32", max_batch)


def engine_of(trt: FakeTensorRT, onnx_file: bytes, folder: Path) -> TensorRTEngine:
    return TensorRTEngine(
        trt,
        make_onnx=lambda: onnx_file,
        make_key=key,
        shape_CTHW=SHAPE,
        classes=5,
        device=torch.device("cpu"),
        cache=EngineCache(folder),
    )


def difference(found: Tensor, expected: Tensor) -> float:
    assert expected.std() > 0
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def test_the_engine_gives_the_logits_of_pytorch(exported: bytes, tmp_path: Path) -> None:
    engine = engine_of(FakeTensorRT(), exported, tmp_path)
    engine.prepare(4)
    assert engine.memory_bytes > len(exported)
    network = small_network()
    results = []
    for count in (1, 3, 4, 1):
        results.append((engine(clips(count)), network(clips(count))))
        assert engine.plan(count) == BatchRun("tensorrt", count)
    for found, expected in results:
        assert found.dtype == torch.float32
        assert difference(found, expected) < TOLERANCES[torch.float32]


@torch.no_grad()
def test_the_graph_computes_in_the_number_format_that_was_asked_for(
    exported_in_bfloat16: bytes,
) -> None:
    """TensorRT takes its formats from the graph, which must be valid ONNX with plain operators."""
    model = onnx.load_from_string(exported_in_bfloat16)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 20
    assert {weights[node.input[1]] for node in convolutions} == {onnx.TensorProto.BFLOAT16}
    network = small_network()
    for count in (1, 3):
        found = torch.from_numpy(run_onnx(model, clips(count).numpy()))
        assert 1e-5 < difference(found, network(clips(count))) < TOLERANCES[torch.bfloat16]


def test_an_engine_in_bfloat16_takes_clips_in_bfloat16(
    exported_in_bfloat16: bytes, tmp_path: Path
) -> None:
    engine = engine_of(FakeTensorRT(), exported_in_bfloat16, tmp_path)
    engine.prepare(2)
    narrow = clips(2).to(torch.bfloat16)
    expected = run_onnx(onnx.load_from_string(exported_in_bfloat16), narrow.float().numpy())
    np.testing.assert_array_equal(engine(narrow).numpy(), expected)


def test_the_engine_is_built_once(exported: bytes, tmp_path: Path) -> None:
    trt = FakeTensorRT()
    for _ in range(2):
        engine = engine_of(trt, exported, tmp_path)
        engine.prepare(2)
        engine.prepare(2)
        engine.prepare(1)
    assert trt.built == 1
    assert engine(clips(2)).shape == (2, 5)
    engine.prepare(3)
    assert trt.built == 2


def test_a_file_that_tensorrt_does_not_load_is_built_again(
    exported: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    cache.store(key(2), b"an engine of another kind of TensorRT")
    trt = FakeTensorRT()
    with caplog.at_level(logging.WARNING):
        engine_of(trt, exported, tmp_path).prepare(2)
    assert trt.built == 1
    assert "TensorRT does not load" in caplog.text
    assert engine_of(trt, exported, tmp_path).prepare(2) is None
    assert trt.built == 1


def test_a_graph_that_tensorrt_does_not_accept_is_an_error_with_its_reason(tmp_path: Path) -> None:
    engine = engine_of(FakeTensorRT(), b"not a graph", tmp_path)
    with pytest.raises(KernelError, match=r"does not accept the network: .+"):
        engine.prepare(2)


def test_a_failed_build_is_an_error_and_the_log_has_tensorrts_words(
    exported: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt = FakeTensorRT()
    trt.cannot_build = True
    with pytest.raises(KernelError, match="could not build"), caplog.at_level(logging.WARNING):
        engine_of(trt, exported, tmp_path).prepare(2)
    assert "TensorRT: no tactic for node_conv3d" in caplog.text
    assert not list(tmp_path.iterdir())


def test_batches_that_do_not_fit_are_refused(exported: bytes, tmp_path: Path) -> None:
    engine = engine_of(FakeTensorRT(), exported, tmp_path)
    engine.prepare(2)
    with pytest.raises(ShapeError, match="at most 2 clips, got 3"):
        engine(clips(3))
    with pytest.raises(ShapeError, match="prepared for clips B 3 32 48 64"):
        engine(torch.zeros(1, 3, 32, 64, 64))
