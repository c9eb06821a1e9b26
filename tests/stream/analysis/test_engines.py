"""Which engine the settings choose, and graphs in a whole pipeline (replayed on the CPU)."""

import sys
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from configs import ConfigError
from model import ActionNetwork, load_model
from model.inference import GraphEngine, PyTorchEngine, TensorRTEngine
from model.inference.engine_cache import EngineCache, EngineKey, file_sha256
from model.network import fold_for_inference
from stream.analysis import engines, recogniser
from stream.analysis.config import InferConfig
from stream.analysis.engines import open_engine
from stream.analysis.recogniser import Recogniser
from stream.pipeline import Pipeline
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_graphs import GRAPH_BYTES, FakeCapture
from tests.support.fake_tensorrt import FakeTensorRT
from tests.support.pipelines import ResultTap, config_for

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.fixture
def network(tiny_weights: Path) -> ActionNetwork:
    return fold_for_inference(load_model(tiny_weights), torch.float32)


def opened(network: ActionNetwork, device: torch.device, **settings: Any) -> Any:
    return open_engine(InferConfig(**settings), network, dtype=torch.float32, device=device)


def test_a_gpu_gets_graphs_unless_they_are_switched_off(
    network: ActionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    for engine in ("auto", "pytorch"):
        assert isinstance(opened(network, GPU, engine=engine), GraphEngine)
        assert isinstance(opened(network, GPU, engine=engine, cuda_graphs=False), PyTorchEngine)
        assert isinstance(opened(network, CPU, engine=engine), PyTorchEngine)


def test_tensorrt_that_cannot_be_used_is_an_error_with_the_remedy(
    network: ActionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="the network runs on the CPU; use auto"):
        opened(network, CPU, engine="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError, match=r"TensorRT is not installed; .*cidc-stream\[tensorrt\]"):
        opened(network, GPU, engine="tensorrt")


def test_a_tensorrt_engine_is_stored_for_its_weights_device_and_versions(
    tiny_weights: Path, network: ActionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTensorRT()
    monkeypatch.setattr(engines, "tensorrt_module", lambda: trt)
    monkeypatch.setattr(engines, "device_facts", lambda device: ("a GPU", "a driver"))
    monkeypatch.setattr(engines, "onnx_of_folded", tiny_onnx)
    settings = {"weights": str(tiny_weights), "engine": "tensorrt", "engine_cache": tmp_path}
    engine = opened(network, GPU, **settings)
    assert isinstance(engine, TensorRTEngine)
    engine.prepare(3)
    expected = EngineKey(file_sha256(tiny_weights), "11.4.0.106", "a GPU", "a driver", "float32", 3)
    assert [*tmp_path.iterdir()] == [EngineCache(tmp_path).path(expected)]
    opened(network, GPU, **settings).prepare(3)
    assert trt.built == 1


def tiny_onnx(network: ActionNetwork, dtype: torch.dtype) -> bytes:
    """Check what would be exported, and return a graph that is quick to make."""
    assert network.folded
    assert not network.training
    assert next(network.buffers()).device == CPU
    assert dtype == torch.float32
    clips, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", *shape])
        for name, shape in (("clips_BCTHW", (3, 32, 48, 80)), ("logits_BK", (3, 1, 1, 1)))
    )
    node = onnx.helper.make_node("GlobalAveragePool", ["clips_BCTHW"], ["logits_BK"])
    graph = onnx.helper.make_graph([node], "g", [clips], [logits])
    opset = onnx.helper.make_opsetid("", 20)
    model: bytes = onnx.helper.make_model(graph, opset_imports=[opset]).SerializeToString()
    return model


def with_graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeCapture]:
    """Let recognisers on the CPU run graphs that are replayed there; return their captures."""
    captures: list[FakeCapture] = []

    def fake(config: InferConfig, network: ActionNetwork, **options: Any) -> GraphEngine:
        captures.append(FakeCapture())
        framing = network.spec.preprocess  # type: ignore[union-attr]
        return GraphEngine(
            network,
            shape_CTHW=(3, 32, framing.height, framing.width),
            capture=captures[-1],
            **options,
        )

    monkeypatch.setattr(recogniser, "open_engine", fake)
    return captures


def test_warming_up_captures_and_maps_still_come_from_the_network(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = InferConfig(weights=str(tiny_weights), device="cpu", precision="float32")
    plain = Recogniser(config)
    captures = with_graphs(monkeypatch)
    found = Recogniser(config)
    found.warm_up(5)
    assert captures[0].tried == [5, 4, 2, 1]
    assert captures[0].replayed == [1, 5]
    ring = torch.randint(0, 256, (2, 32, 48, 80, 3), dtype=torch.uint8)
    batch = found.gather(ring, [(0, 3), (1, 0), (0, 9)])
    torch.testing.assert_close(
        found.probabilities(batch), plain.probabilities(batch), atol=1e-5, rtol=1e-4
    )
    frame = torch.zeros(90, 160, 3, dtype=torch.uint8).numpy()
    action = found.spec.labels[0]
    painted = found.overlay(batch[:1], frame, action, 0.5)
    assert (painted == plain.overlay(batch[:1], frame, action, 0.5)).all()
    assert painted.any()


@pytest.mark.slow
def test_a_pipeline_with_graphs_gives_the_same_probabilities_and_tells_what_ran(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((scenes / "recordings").glob("*.mp4"))[:3]
    urls = {f"c{index}": path for index, path in enumerate(paths)}
    seen = []
    summaries = []
    for graphs in (False, True):
        if graphs:
            with_graphs(monkeypatch)
        folder = tmp_path / str(graphs)
        config = config_for(tiny_weights, folder, urls, batch={"max_batch": 6})
        with Pipeline(config) as pipeline:
            tap = ResultTap(pipeline)
            summaries.append(pipeline.run(threading.Event()))
            shown = pipeline.metrics.exposition().decode()
        seen.append(tap.seen)
    assert seen[0].keys() == seen[1].keys()
    for view, rows in seen[0].items():
        assert len(rows) > 3
        found, expected = torch.tensor(seen[1][view]), torch.tensor(rows)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    eager, graph = (summary["network"] for summary in summaries)
    clips = sum(camera["clips"] for camera in summaries[1]["cameras"].values())
    assert eager["engine"] == "eager"
    assert set(eager["batches"]) == {"eager"}
    assert eager["padded_clips"] == 0
    assert graph["engine"] == "graph"
    assert graph["prepared_sizes"] == [1, 2, 4, 6]
    assert graph["memory_bytes"] == 4 * GRAPH_BYTES
    counts = {int(size): count for size, count in graph["batches"]["graph"].items()}
    assert set(counts) <= {1, 2, 4, 6}
    computed = sum(size * count for size, count in counts.items())
    assert computed - graph["padded_clips"] == clips
    assert summaries[1]["runtime"]["engine"] == "graph"
    assert 'cidc_network_batches_total{engine="graph",size="' in shown
