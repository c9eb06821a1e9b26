"""One step of gradient descent: forward, backward, update.

The batch is split over all ranks and, to save memory, into `accumulate` smaller parts. Letters in
names of tensors: B clips, T frames, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs import ConfigError
from model.media.preprocess import normalise_clips
from model.network import ActionNetwork
from train.config import OptimiserConfig, TrainConfig
from train.distributed import Ranks, synchronise_norms
from train.engine.regularise import augment, classification_loss, mix

__all__ = ["Stepper", "build_optimiser", "check_batch", "learning_rate_at"]

# All ranks already have the same running statistics, so DDP need not copy them before each
# forward pass. PyTorch 2.13 renamed the argument that disables this copy.
_KEEP_BUFFERS: dict[str, Any] = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)


def learning_rate_at(progress: float, optimiser: OptimiserConfig) -> float:
    """Return the learning rate after `progress` epochs.

    The rate rises linearly during warm-up. It is divided by 10 at each milestone, or falls along
    half a cosine.
    """
    scale = 1.0 if optimiser.base_batch is None else optimiser.batch / optimiser.base_batch
    rate = scale * optimiser.learning_rate
    if optimiser.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * min(1.0, progress / optimiser.epochs))) / 2
    else:
        passed = sum(progress >= fraction * optimiser.epochs for fraction in optimiser.milestones)
        rate *= 0.1**passed
    if progress < optimiser.warmup_epochs:
        rate *= progress / optimiser.warmup_epochs
    return rate


def check_batch(optimiser: OptimiserConfig, ranks: Ranks, *, videos: int | None = None) -> None:
    """Check that every part of a batch can be split equally over all ranks.

    Raises:
        ConfigError: the batch cannot be split equally, or there are fewer training videos than
            clips in a batch.
    """
    if ranks.size == 1:
        return
    if videos is not None and videos < optimiser.batch:
        raise ConfigError(
            f"{ranks.size} processes need at least one whole batch: optimiser.batch is"
            f" {optimiser.batch}, there are {videos} videos"
        )
    pieces = ranks.size * optimiser.accumulate
    if optimiser.batch % pieces:
        raise ConfigError(
            f"optimiser.batch ({optimiser.batch}) must be a multiple of {ranks.size} processes x"
            f" optimiser.accumulate ({optimiser.accumulate}) = {pieces}"
        )


class Stepper:
    """Trains a network step by step; `optimiser` holds the state that checkpoints save."""

    def __init__(
        self,
        network: ActionNetwork,
        config: TrainConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks,
    ) -> None:
        self._config = config
        self._device = device
        self._dtype = dtype
        self._ranks = ranks
        self._distributed: DistributedDataParallel | None = None
        if ranks.size > 1:
            network = cast("ActionNetwork", synchronise_norms(network, device))
            self._distributed = _distribute(network, device)
        self._network: nn.Module = network
        self.optimiser = build_optimiser(network, config.optimiser)
        callee: nn.Module = self._distributed or network
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(callee) if config.compile else callee
        )

    def __call__(
        self, clips_BTHWC: Tensor, labels_B: Tensor, *, rate: float, position: tuple[int, int]
    ) -> Tensor:
        """Update the network from this rank's clips of a batch.

        On a GPU, the work is only queued: nothing here waits for the device.

        Args:
            rate: learning rate.
            position: epoch and step; random choices depend only on the position and the seed.

        Returns:
            Float64 tensor of two values on the network's device: the mean loss, and the number of
            clips that were classified correctly. If the loss is not finite, the update has spoilt
            the network: do not save it.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate_fraction"]
        self._seed(position)
        self.optimiser.zero_grad()
        result_2 = self._backward(clips_BTHWC, labels_B.to(self._device))
        max_norm = self._config.optimiser.clip_gradient
        if max_norm:
            nn.utils.clip_grad_norm_(self._network.parameters(), max_norm)
        self.optimiser.step()
        return result_2

    def _seed(self, position: tuple[int, int]) -> None:
        """Seed dropout from the position, so that a resumed run repeats the same random choices."""
        key = [self._config.seed, *position]
        if self._ranks.size > 1:
            key.append(self._ranks.rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _backward(self, clips_BTHWC: Tensor, labels_B: Tensor) -> Tensor:
        """Sum the gradients of all parts of a batch; return mean loss and correct clips."""
        result_2 = torch.zeros(2, dtype=torch.float64, device=self._device)
        parts = self._config.optimiser.accumulate
        pieces = list(zip(clips_BTHWC.chunk(parts), labels_B.chunk(parts), strict=True))
        for index, (clips, labels) in enumerate(pieces):
            is_last = index == len(pieces) - 1
            with self._exchange_gradients(is_last):
                result_2 += self._backward_part(clips, labels, len(labels_B))
        return result_2

    def _exchange_gradients(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which ranks exchange gradients only for the last part of a batch."""
        if self._distributed is None or is_last:
            return contextlib.nullcontext()
        return cast("contextlib.AbstractContextManager[None]", self._distributed.no_sync())

    def _backward_part(self, clips_BTHWC: Tensor, labels_B: Tensor, batch: int) -> Tensor:
        clips = normalise_clips(
            clips_BTHWC.to(self._device), self._config.preprocess, dtype=self._dtype
        )
        measures = self._config.regularisation
        clips = augment(clips, measures)
        mixed = mix(clips, labels_B, measures.mixup) if measures.mixup else None
        if mixed is not None:
            clips = mixed.clips_BCTHW
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is torch.bfloat16):
            logits_BK = self._forward(clips)
        loss = classification_loss(
            logits_BK, labels_B, mixed, label_smoothing=measures.label_smoothing
        )
        loss = loss * (len(labels_B) / batch)
        loss.backward()  # type: ignore[no-untyped-call]
        correct = (logits_BK.argmax(1) == labels_B).sum()
        return torch.stack([loss.detach().double(), correct.double()])


def _distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, **_KEEP_BUFFERS)


def build_optimiser(network: ActionNetwork, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the optimiser of a network; weights that never have a gradient do not change."""
    groups = _parameter_groups(network, config.backbone_rate)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _parameter_groups(network: ActionNetwork, backbone_rate: float) -> list[dict[str, Any]]:
    """Return the weights of backbone and rest, each with its fraction of the learning rate."""
    backbone = list(network.backbone.parameters())
    known = set(map(id, backbone))
    rest = [weights for weights in network.parameters() if id(weights) not in known]
    return [
        {"params": backbone, "rate_fraction": backbone_rate},
        {"params": rest, "rate_fraction": 1.0},
    ]
