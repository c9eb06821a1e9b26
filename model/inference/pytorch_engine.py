"""Runs the network by plain PyTorch, operator by operator, in the size of each batch.

Letters: B clips, C channels, T frames, H and W space, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.inference.engine import BatchRun, EngineName, NetworkCall

__all__ = ["PyTorchEngine"]


class PyTorchEngine:
    """Calls the network.

    Args:
        network: a network from `fold_for_inference`, on its device.
    """

    name: EngineName = "eager"
    sizes: tuple[int, ...] = ()
    memory_bytes = 0

    def __init__(self, network: NetworkCall) -> None:
        self._network = network

    def prepare(self, max_batch: int) -> None:
        """Do nothing; PyTorch needs no preparation."""

    def plan(self, clips: int) -> BatchRun:
        """Return that a batch runs in its own size."""
        return BatchRun("eager", clips)

    @torch.inference_mode()
    def __call__(self, clips_BCTHW: Tensor) -> Tensor:
        """Map normalised clips to `logits_BK` in float32."""
        return self._network(clips_BCTHW)
