"""The calls that capture CUDA graphs, on fake streams and with PyTorch's own signatures."""

import inspect
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from model.inference.graph_capture import CudaGraphCapture
from tests.support.fake_cuda import FakeCuda

GPU = torch.device("cuda", 0)
REAL_GRAPH = torch.cuda.graph


class FakeCudaGraph:
    """Takes the place of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        """Count it."""
        self.replays += 1


class Rig:
    """A network that notes the stream it runs on, and whether it is captured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuda = FakeCuda(monkeypatch)
        self.runs: list[tuple[str, bool]] = []
        self.options: list[dict[str, Any]] = []
        self.capturing = False
        rig = self

        class FakeContext:
            def __init__(self, *values: Any, **named: Any) -> None:
                bound = inspect.signature(REAL_GRAPH.__init__).bind(self, *values, **named)
                rig.options.append(bound.arguments)
                self._entered = torch.cuda.stream(bound.arguments["stream"])

            def __enter__(self) -> Self:
                self._entered.__enter__()
                rig.capturing = True
                return self

            def __exit__(self, *exception: Any) -> None:
                rig.capturing = False
                self._entered.__exit__(*exception)

        monkeypatch.setattr(torch.cuda, "graph", FakeContext)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeCudaGraph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))

    def network(self, clips: Tensor) -> Tensor:
        """Put the network on the current stream; a captured run has no result yet."""
        stream = self.cuda.current()
        self.runs.append((stream.name, self.capturing))
        if not self.capturing:
            stream.put("network", lambda: None)
        return clips.new_zeros(len(clips), 2)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_the_network_runs_three_times_on_the_stream_that_then_captures_it(rig: Rig) -> None:
    capture = CudaGraphCapture(GPU)
    clips = torch.zeros(2, 1)
    graph = capture.capture(rig.network, clips)
    assert rig.runs == [("stream 0", False)] * 3 + [("stream 0", True)]
    assert rig.cuda.current() is rig.cuda.default
    assert not rig.cuda.waits
    graph.replay()
    graph.replay()
    assert graph.output_BK.shape == (2, 2)
    assert rig.options[0]["cuda_graph"].replays == 2


def test_graphs_share_pool_and_stream_and_allow_other_threads(rig: Rig) -> None:
    """A capture in the default mode would make allocations of DALI's threads fail."""
    capture = CudaGraphCapture(GPU)
    for size in (4, 2):
        capture.capture(rig.network, torch.zeros(size, 1))
    first, second = rig.options
    assert first["pool"] == second["pool"] == (0, 1)
    assert first["stream"] is second["stream"]
    assert {options["capture_error_mode"] for options in rig.options} == {"thread_local"}
    assert first["cuda_graph"] is not second["cuda_graph"]


def test_both_streams_wait_for_each_other_around_the_warm_up(rig: Rig) -> None:
    """The weights were copied on the current stream; what follows must see the warm-up's end."""
    rig.cuda.default.put("weights", lambda: None)
    CudaGraphCapture(GPU).capture(rig.network, torch.zeros(1, 1))
    rig.cuda.default.advance(rig.cuda.default.record_event())
    done = [name for _, name in rig.cuda.done if name in ("weights", "network")]
    assert done == ["weights", *["network"] * 3]


def test_reserved_memory_is_counted_without_what_nobody_uses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: steps.append("wait"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: steps.append("give back"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: len(steps))
    assert CudaGraphCapture(GPU).reserved_bytes() == 2
    assert steps == ["wait", "give back"]
