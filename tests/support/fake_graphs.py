"""Captures of CUDA graphs without a device: a replay computes on the CPU what was captured.

It is harsher than CUDA. After a replay, the input is full of NaN, so that whoever does not fill it
again computes NaN. Before a replay, the outputs of all graphs are, because they share memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["FakeCapture", "FakeGraph"]

Network = Callable[[Tensor], Tensor]
GRAPH_BYTES = 1000


class FakeGraph:
    """A captured run of a network on one input tensor."""

    def __init__(self, capture: FakeCapture, network: Network, clips: Tensor) -> None:
        self._capture = capture
        self._network = network
        self._clips = clips
        # A capture computes nothing: the output has a shape and no values.
        self.output_BK = torch.full_like(network(clips), float("nan"))

    def replay(self) -> None:
        """Compute again, on what the input holds now."""
        for graph in self._capture.graphs:
            graph.output_BK.fill_(float("nan"))
        self.output_BK.copy_(self._network(self._clips))
        self._capture.replayed.append(len(self._clips))
        self._clips.fill_(float("nan"))


class FakeCapture:
    """Captures graphs, and fails where a test says so.

    Attributes:
        tried: batch sizes of all captures, in order.
        replayed: batch sizes of all replays, in order.
        graphs: what was captured.
    """

    def __init__(self, failures: Mapping[int, Exception] | None = None) -> None:
        self.tried: list[int] = []
        self.replayed: list[int] = []
        self.graphs: list[FakeGraph] = []
        self._failures = failures or {}

    def capture(self, network: Network, clips_BCTHW: Tensor) -> FakeGraph:
        """Capture a run, or raise what was planned for this size."""
        assert clips_BCTHW.is_contiguous(memory_format=torch.channels_last_3d)
        size = len(clips_BCTHW)
        self.tried.append(size)
        if size in self._failures:
            raise self._failures[size]
        self.graphs.append(FakeGraph(self, network, clips_BCTHW))
        return self.graphs[-1]

    def reserved_bytes(self) -> int:
        """Return as many bytes as if each graph took a thousand."""
        return 500 + GRAPH_BYTES * len(self.graphs)
