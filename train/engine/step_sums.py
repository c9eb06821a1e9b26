"""The results of a step, which the host fetches one step late so that it never waits for the step.

On a GPU, the host queues the work of a step and continues. Fetching the loss at once would make
the host wait until the step has ended, and the GPU wait for the host afterwards.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from train.distributed import Ranks

__all__ = ["PendingSums", "StepSums", "StepTimer"]


@dataclasses.dataclass(frozen=True)
class StepSums:
    """The results of one step over the clips of all ranks.

    Attributes:
        loss: mean loss.
        correct: number of clips that were classified correctly.
        clips: number of clips.
        asked_to_stop: whether any rank was asked to stop before the step.
    """

    loss: float
    correct: int
    clips: int
    asked_to_stop: bool


class PendingSums:
    """Results of a step that are on their way to the host.

    Args:
        result_2: float64 tensor: mean loss and number of correct clips of this rank.
        clips: number of clips of this rank.
        asked_to_stop: whether this rank was asked to stop.
        ranks: the processes that train together; all must create their sums of the same step.
    """

    def __init__(self, result_2: Tensor, *, clips: int, asked_to_stop: bool, ranks: Ranks) -> None:
        loss, correct = result_2.unbind()
        # A fill is a kernel: unlike an upload of a tensor, it does not wait for the device.
        constants = [torch.full_like(loss, value) for value in (clips, asked_to_stop)]
        sums_4 = torch.stack([loss * clips, correct, *constants])
        if ranks.size > 1:
            torch.distributed.all_reduce(sums_4)
        self._copied: Any = None
        self._sums_4 = sums_4
        if sums_4.is_cuda:
            self._sums_4 = torch.empty(4, dtype=sums_4.dtype, pin_memory=True)
            self._sums_4.copy_(sums_4, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def fetch(self) -> StepSums:
        """Wait for the step, and return its results."""
        if self._copied is not None:
            self._copied.synchronize()
        loss_sum, correct, clips, asked_to_stop = self._sums_4.tolist()
        return StepSums(loss_sum / clips, int(correct), int(clips), bool(asked_to_stop))


class StepTimer:
    """Measures how long steps take, and how long they wait for data.

    On a GPU, a step waits only while the GPU has nothing to do: the host usually asks for the next
    batch long before the GPU has finished the step before it. So the time that the host waits
    counts only as far as the GPU was idle between the two steps.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._ended: Any = None

    def start(self, host_waited: float) -> StepTime:
        """Start a step; `host_waited` says how many seconds the host waited for its data."""
        return StepTime(host_waited, self._ended, self._record())

    def end(self) -> None:
        """Call this after the work of a step was queued."""
        self._ended = self._record()

    def _record(self) -> Any:
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


@dataclasses.dataclass(frozen=True)
class StepTime:
    """The moments at which the step before this one ended and this one started, on the device."""

    host_waited: float
    before_ended: Any
    started: Any

    def waited(self) -> float:
        """Return how many seconds the step waited for data; the step must have ended."""
        if self.started is None or self.before_ended is None:
            return self.host_waited
        idle = float(self.before_ended.elapsed_time(self.started)) * 1e-3
        return min(self.host_waited, max(0.0, idle))
