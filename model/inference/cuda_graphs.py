"""Runs the network as CUDA graphs: one launch for a batch instead of hundreds.

A graph has a fixed batch size, so batches are padded to 1, 2, 4, 8 and so on clips. Padding is not
cleared: clips of a batch do not depend on each other, whatever the others hold.

Letters: B clips, C channels, T frames, H and W space, K classes.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from configs import KernelError
from model.inference.engine import BatchRun, EngineName, NetworkCall, check_clips
from model.inference.graph_capture import CapturedGraph, CudaGraphCapture, GraphCapture

__all__ = ["GraphEngine", "padded_sizes"]

_log = logging.getLogger(__name__)


def padded_sizes(max_batch: int) -> tuple[int, ...]:
    """Return the powers of two below `max_batch`, and `max_batch`."""
    powers = (1 << power for power in range(max_batch.bit_length()))
    return (*(size for size in powers if size < max_batch), max_batch)


class GraphEngine:
    """Replays CUDA graphs of a network.

    A batch whose size has no graph runs eagerly, without padding: before `prepare`, with more clips
    than `max_batch`, or because the capture failed.

    Args:
        network: a network from `fold_for_inference`, on its device.
        shape_CTHW: shape of a clip.
        dtype: data type of the clips.
        device: device of the network.
        capture: captures the graphs; None for CUDA's.
    """

    def __init__(
        self,
        network: NetworkCall,
        *,
        shape_CTHW: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        capture: GraphCapture | None = None,
    ) -> None:
        self._network = network
        self._shape_CTHW = shape_CTHW
        self._dtype = dtype
        self._device = device
        self._capture = CudaGraphCapture(device) if capture is None else capture
        self._max_batch = 0
        self._clips_BCTHW = torch.empty(0)
        self._graphs: dict[int, CapturedGraph] = {}
        self._padded: tuple[int, ...] = ()
        self.memory_bytes = 0

    @property
    def name(self) -> EngineName:
        """How most batches run: `graph`, or `eager` if there are no graphs."""
        return "graph" if self._graphs or not self._max_batch else "eager"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that have a graph, in rising order."""
        return tuple(sorted(self._graphs))

    def plan(self, clips: int) -> BatchRun:
        """Return the graph that a batch of this many clips uses, or that it runs eagerly."""
        size = next((size for size in self._padded if size >= clips), 0)
        return BatchRun("graph", size) if size in self._graphs else BatchRun("eager", clips)

    @torch.inference_mode()
    def prepare(self, max_batch: int) -> None:
        """Capture a graph for each size, the largest first, so that the others fit into its memory.

        A call with the same or a smaller `max_batch` does nothing. If a capture fails, this is
        logged once. Smaller sizes are tried only if memory was short: an operation that cannot be
        captured is part of every size.
        """
        if max_batch <= self._max_batch:
            return
        self._graphs.clear()
        self._clips_BCTHW = torch.empty(0)
        before = self._capture.reserved_bytes()
        self._max_batch = max_batch
        self._padded = padded_sizes(max_batch)
        self._capture_all()
        if not self._graphs:
            self._clips_BCTHW = torch.empty(0)
        self.memory_bytes = self._capture.reserved_bytes() - before
        if self._graphs:
            _log.info(
                "CUDA graphs for batches of %s clips take %.0f MiB",
                ", ".join(map(str, self.sizes)),
                self.memory_bytes / (1 << 20),
            )

    @torch.inference_mode()
    def __call__(self, clips_BCTHW: Tensor) -> Tensor:
        """Map normalised clips to `logits_BK` in float32, in memory that later calls do not change.

        Raises:
            ShapeError: the clips have another shape than the graphs.
        """
        run = self.plan(len(clips_BCTHW))
        if run.engine == "eager":
            return self._network(clips_BCTHW)
        check_clips(clips_BCTHW, self._shape_CTHW)
        graph = self._graphs[run.size]
        self._clips_BCTHW[: len(clips_BCTHW)].copy_(clips_BCTHW)
        graph.replay()
        # All graphs share memory, so the next replay may overwrite the output.
        return graph.output_BK[: len(clips_BCTHW)].clone()

    def _capture_all(self) -> None:
        failures: dict[int, str] = {}
        for size in reversed(self._padded):
            try:
                if not len(self._clips_BCTHW):
                    self._clips_BCTHW = self._empty_clips(size)
                # In channels-last memory each clip is whole, so the first ones are dense.
                self._graphs[size] = self._capture.capture(self._network, self._clips_BCTHW[:size])
            except torch.OutOfMemoryError:
                failures[size] = "too little GPU memory"
            except (RuntimeError, KernelError) as error:
                others = [other for other in self._padded if other <= size]
                failures |= dict.fromkeys(others, _reason(error))
                break
        if failures:
            _log.warning(
                "no CUDA graph for batches of %s clips, which run eagerly: %s",
                ", ".join(map(str, sorted(failures))),
                "; ".join(dict.fromkeys(failures.values())),
            )

    def _empty_clips(self, size: int) -> Tensor:
        """Return a buffer of zeros, which every graph reads from its start."""
        channels, times, height, width = self._shape_CTHW
        buffer_BTHWC = torch.zeros(
            size, times, height, width, channels, dtype=self._dtype, device=self._device
        )
        return buffer_BTHWC.permute(0, 4, 1, 2, 3)


def _reason(error: BaseException) -> str:
    """Return the first line of the error that came first; ending the capture may add others."""
    while error.__cause__ is None and error.__context__ is not None:
        error = error.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
