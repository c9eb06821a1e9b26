"""Captures PyTorch's work on a CUDA device as graphs, which are replayed in one call.

This has not run on a GPU yet. Tests replace `CudaGraphCapture` by a fake that replays on the CPU.

Letters: B clips, C channels, T frames, H and W space, K classes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from model.inference.engine import NetworkCall

__all__ = ["CapturedGraph", "CudaGraphCapture", "GraphCapture"]

# PyTorch asks for a few runs before a capture. They choose cuDNN's algorithms, allocate cuBLAS's
# workspaces and compile our kernels. A capture must do nothing of this.
_WARM_UP_RUNS = 3


class CapturedGraph(Protocol):
    """A captured run of a network on one input tensor.

    Attributes:
        output_BK: where a replay puts the logits. The next replay of any graph of the same capture
            overwrites this memory.
    """

    output_BK: Tensor

    def replay(self) -> None:
        """Run again on what the input tensor holds now, on the current stream."""


class GraphCapture(Protocol):
    """Captures graphs that share one pool of memory."""

    def capture(self, network: NetworkCall, clips_BCTHW: Tensor) -> CapturedGraph:
        """Capture a run of the network on this tensor, which must stay where it is.

        Raises:
            RuntimeError, KernelError: the run cannot be captured, or memory is short
                (`torch.OutOfMemoryError`).
        """

    def reserved_bytes(self) -> int:
        """Return how much device memory PyTorch holds, without memory that nobody uses."""


class CudaGraphCapture:
    """Captures CUDA graphs.

    Warm-up and capture use one side stream, because cuBLAS keeps a workspace for each stream. A
    graph may be replayed on any stream.

    The capture is `thread_local`: CUDA refuses unsafe calls of this thread only. With `global`, the
    default, an allocation in a thread of DALI, of a decoder or of another pipeline in this process
    would fail, and spoil the capture. Such calls are not recorded in either mode, and PyTorch puts
    only memory of the capturing stream into the graphs' pool.

    Args:
        device: the CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()

    def capture(self, network: NetworkCall, clips_BCTHW: Tensor) -> CapturedGraph:
        """Warm up and capture; see `GraphCapture`."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                network(clips_BCTHW)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            output_BK = network(clips_BCTHW)
        return _CudaGraph(graph, output_BK)

    def reserved_bytes(self) -> int:
        """Return the bytes that PyTorch has reserved, after it has given back what it can."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(self._device)


class _CudaGraph:
    """A CUDA graph and its output."""

    def __init__(self, graph: Any, output_BK: Tensor) -> None:
        self._graph = graph
        self.output_BK = output_BK

    def replay(self) -> None:
        """Launch the graph on the current stream."""
        self._graph.replay()
