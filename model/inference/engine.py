"""The interface of engines, which run a network on batches of normalised clips.

Letters: B clips, C channels, T frames, H and W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from configs import ShapeError

__all__ = ["BatchRun", "Engine", "EngineChoice", "EngineName", "NetworkCall", "check_clips"]

EngineChoice = Literal["auto", "pytorch", "tensorrt"]
# How a batch runs: `graph` replays a CUDA graph, `eager` calls PyTorch operator by operator.
EngineName = Literal["eager", "graph", "tensorrt"]
# Maps normalised clips `B C T H W` to logits `B K`.
NetworkCall = Callable[[Tensor], Tensor]


class BatchRun(NamedTuple):
    """How a batch runs, and how many clips are computed, with padding."""

    engine: EngineName
    size: int


class Engine(Protocol):
    """Runs a network; one thread at a time calls it, inside the stream that it works on.

    Attributes:
        name: how most batches run.
        sizes: batch sizes that were prepared, in rising order; empty if every size runs alike.
        memory_bytes: device memory that `prepare` took; 0 if that is not known.
    """

    @property
    def name(self) -> EngineName: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    @property
    def memory_bytes(self) -> int: ...

    def prepare(self, max_batch: int) -> None:
        """Get ready for batches of up to `max_batch` clips; a second call does nothing."""

    def plan(self, clips: int) -> BatchRun:
        """Return how a batch of this many clips runs."""

    def __call__(self, clips_BCTHW: Tensor) -> Tensor:
        """Map normalised clips to `logits_BK` in float32, in memory that is the caller's."""


def check_clips(clips_BCTHW: Tensor, shape_CTHW: tuple[int, ...]) -> None:
    """Check that a batch has the shape that an engine was prepared for.

    Raises:
        ShapeError: it has another shape, or no clips.
    """
    if not len(clips_BCTHW) or tuple(clips_BCTHW.shape[1:]) != shape_CTHW:
        raise ShapeError(
            f"the engine was prepared for clips B {' '.join(map(str, shape_CTHW))},"
            f" got {tuple(clips_BCTHW.shape)}"
        )
