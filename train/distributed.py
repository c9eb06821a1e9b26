"""Training in several processes, which torchrun starts, with batch norm over their common batch.

The processes sum gradients and metrics with gloo on CPUs and with NCCL on GPUs. Letters: B clips, C
channels, T time, H and W space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from configs import ConfigError

__all__ = ["Ranks", "joined_ranks", "synchronise_norms"]

Item = TypeVar("Item")
# Long, because all ranks wait for the rank that reads videos slowest; torchrun notices dead ranks.
_TIMEOUT = datetime.timedelta(hours=6)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The number of processes that train together, and the number (rank) of this process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1  # processes on this machine

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0; only rank 0 writes the common files."""
        return self.rank == 0

    def part_of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this rank's part of a list; all ranks get consecutive parts of similar size."""
        bounds = [len(items) * rank // self.size for rank in range(self.size + 1)]
        return items[bounds[self.rank] : bounds[self.rank + 1]]

    def gather(self, items: list[Item]) -> list[Item]:
        """Collect the lists of all ranks; return one list, in rank order, on every rank."""
        if self.size == 1:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def wait(self) -> None:
        """Wait until all ranks have called this method."""
        if self.size > 1:
            torch.distributed.barrier()


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Connect to the other processes that torchrun started; without torchrun, train alone.

    Args:
        device: `cpu`, `cuda` or `auto`, as in the training configuration.

    Raises:
        ConfigError: torchrun started more processes than there are GPUs, or only some of torchrun's
            environment variables are set.
    """
    ranks = _ranks_of_environment()
    if ranks.size == 1:
        yield ranks
        return
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    gpu = _take_gpu(ranks.local_rank) if on_gpu else None
    # PyTorch warns about weights of 1x1x1 convolutions, whose strides have two equivalent forms.
    # The memory layout is the same, so nothing is copied and the warning can be ignored.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # With the device, NCCL connects at once, so a failure shows here and not in the first step, and
    # barriers use this GPU and not a guessed one.
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=_TIMEOUT, device_id=gpu
    )
    try:
        yield ranks
    finally:
        torch.distributed.destroy_process_group()


def _ranks_of_environment() -> Ranks:
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    if not {"RANK", "LOCAL_RANK"} <= set(os.environ):
        raise ConfigError(
            f"WORLD_SIZE is {size}, but RANK and LOCAL_RANK are not set: start with torchrun, or"
            " unset WORLD_SIZE"
        )
    return Ranks(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
    )


def _take_gpu(local_rank: int) -> torch.device:
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise ConfigError(
            f"torchrun started process {local_rank} here, but there are {found} GPUs; lower"
            " --nproc-per-node"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def synchronise_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch norm compute its statistics over the clips of all ranks.

    On GPUs, PyTorch's SyncBatchNorm is used because it needs less memory; it does not support CPUs.

    Returns:
        The network; its layers are replaced in place.
    """
    if device.type == "cuda":
        return cast("nn.Module", nn.SyncBatchNorm.convert_sync_batchnorm(network))  # type: ignore[no-untyped-call]
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(network, name, SynchronisedBatchNorm3d.of(child))
        else:
            synchronise_norms(child, device)
    return network


class SynchronisedBatchNorm3d(nn.BatchNorm3d):
    """Batch norm that in training computes mean and variance over the clips of all ranks."""

    @classmethod
    def of(cls, norm: nn.BatchNorm3d) -> SynchronisedBatchNorm3d:
        """Return a module that shares the parameters and buffers of `norm`."""
        twin = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        twin._parameters = norm._parameters
        twin._buffers = norm._buffers
        twin.training = norm.training
        return twin

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Normalise a `B C T H W` tensor; return a tensor of the same shape and type."""
        if not self.training:
            return super().forward(x_BCTHW)
        x = x_BCTHW.float()
        values = torch.tensor([x.numel() / x.shape[1]], device=x.device)
        sums = _SumOverRanks.apply(torch.cat([x.sum(dim=(0, 2, 3, 4)), values]))  # type: ignore[no-untyped-call]
        count = sums[-1].detach()
        mean_C = sums[:-1] / count
        squares = (x - mean_C.view(1, -1, 1, 1, 1)).square().sum(dim=(0, 2, 3, 4))
        var_C = _SumOverRanks.apply(squares) / count  # type: ignore[no-untyped-call]
        self._update_running(mean_C.detach(), var_C.detach() * count / (count - 1).clamp(min=1))
        scale_C = self.weight * torch.rsqrt(var_C + self.eps)
        shift_C = self.bias - mean_C * scale_C
        return torch.addcmul(shift_C.view(1, -1, 1, 1, 1), x, scale_C.view(1, -1, 1, 1, 1)).to(
            x_BCTHW.dtype
        )

    def _update_running(self, mean_C: Tensor, var_C: Tensor) -> None:
        momentum = 0.1 if self.momentum is None else self.momentum
        cast("Tensor", self.num_batches_tracked).add_(1)
        cast("Tensor", self.running_mean).lerp_(mean_C, momentum)
        cast("Tensor", self.running_var).lerp_(var_C, momentum)


class _SumOverRanks(torch.autograd.Function):
    """Sums a tensor over all ranks; the backward pass sums the gradients over all ranks."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total
