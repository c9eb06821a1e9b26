"""One step of gradient descent: forward, backward, update; over the ranks of a group, and in
parts where memory is short.
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

from configs import ConfigError, TrainingError
from model.media.preprocess import normalise_clips
from model.network import ActionNetwork
from train.config import OptimiserConfig, TrainConfig
from train.distributed import Group, synchronise_norms

__all__ = ["Stepper", "check_batch", "learning_rate_at"]
# Statistics are the same on all ranks already. The name of the switch changed with PyTorch 2.13.
_KEEP_BUFFERS: dict[str, Any] = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)


def learning_rate_at(progress: float, optimiser: OptimiserConfig) -> float:
    """The rate after `progress` epochs: linear warm-up, then a tenth at each milestone."""
    scale = 1.0 if optimiser.base_batch is None else optimiser.batch / optimiser.base_batch
    rate = (
        scale
        * optimiser.learning_rate
        * 0.1 ** sum(progress >= share * optimiser.epochs for share in optimiser.milestones)
    )
    if progress < optimiser.warmup_epochs:
        rate *= progress / optimiser.warmup_epochs
    return rate


def check_batch(optimiser: OptimiserConfig, group: Group, *, videos: int | None = None) -> None:
    """Every rank takes an equal share of every part of a batch.

    Raises:
        ConfigError: the batch does not divide, or there are fewer training videos than one batch
            takes.
    """
    if group.size > 1 and videos is not None and videos < optimiser.batch:
        raise ConfigError(
            f"{group.size} processes need at least one whole batch: optimiser.batch is"
            f" {optimiser.batch}, there are {videos} videos"
        )
    pieces = group.size * optimiser.accumulate
    if group.size > 1 and optimiser.batch % pieces:
        raise ConfigError(
            f"optimiser.batch ({optimiser.batch}) must be a multiple of {group.size} processes x"
            f" optimiser.accumulate ({optimiser.accumulate}) = {pieces}"
        )


class Stepper:
    """Steps of a network; `optimiser` holds the state to save."""

    def __init__(
        self,
        network: ActionNetwork,
        config: TrainConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        group: Group,
    ) -> None:
        self._config = config
        self._device = device
        self._dtype = dtype
        self._group = group
        self._wrapped: DistributedDataParallel | None = None
        if group.size > 1:
            network = cast("ActionNetwork", synchronise_norms(network, device))
            ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
            self._wrapped = DistributedDataParallel(network, device_ids=ids, **_KEEP_BUFFERS)
        self._network: nn.Module = network
        self.optimiser = _build_optimiser(network, config.optimiser)
        callee: nn.Module = self._wrapped or network
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(callee) if config.compile else callee
        )

    def __call__(
        self, clips_BTHWC: Tensor, labels_B: Tensor, *, rate: float, place: tuple[int, int]
    ) -> tuple[float, int]:
        """Take this rank's clips of a batch; returns their mean loss and how many were right.

        Args:
            rate: learning rate.
            place: epoch and step, on which random choices depend and nothing else.

        Raises:
            TrainingError: the loss is not finite.
        """
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = rate
        # Dropout draws from here: a step is the same whether or not the run was resumed before it.
        key = [self._config.seed, *place] + ([self._group.rank] if self._group.size > 1 else [])
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self.optimiser.zero_grad()
        total = 0.0
        correct = 0
        parts = self._config.optimiser.accumulate
        pieces = list(
            zip(clips_BTHWC.chunk(parts), labels_B.to(self._device).chunk(parts), strict=True)
        )
        for index, (clips_part, labels) in enumerate(pieces):
            # gradients are exchanged once, with the last part
            waiting = self._wrapped is not None and index < len(pieces) - 1
            with (
                self._wrapped.no_sync()
                if waiting and self._wrapped is not None
                else contextlib.nullcontext()
            ):
                loss, right = self._part(clips_part, labels, len(labels_B))
            total = total + loss
            correct = correct + right
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss became {total}; lower optimiser.learning_rate or set"
                " optimiser.clip_gradient"
            )
        if self._config.optimiser.clip_gradient:
            nn.utils.clip_grad_norm_(
                self._network.parameters(), self._config.optimiser.clip_gradient
            )
        self.optimiser.step()
        return total, correct

    def _part(self, clips_BTHWC: Tensor, labels_B: Tensor, batch: int) -> tuple[float, int]:
        clips = normalise_clips(
            clips_BTHWC.to(self._device), self._config.preprocess, dtype=self._dtype
        )
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype is torch.bfloat16):
            logits_BK = self._forward(clips)
        loss = nn.functional.cross_entropy(logits_BK, labels_B) * (len(labels_B) / batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), int((logits_BK.argmax(1) == labels_B).sum())


def _build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    if config.kind == "adamw":
        return torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
    return torch.optim.SGD(
        network.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
