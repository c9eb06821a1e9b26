"""A CUDA stream for each thread that uses the device, and copies to the device that do not wait.

On a CPU all of it does nothing. PyTorch puts work on the current stream of the calling thread; with
one stream for all threads, each small step would wait for the network's kernels.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["DeviceEvent", "DeviceStream", "HostUpload"]

# Each array starts at a multiple of this, as CUDA's own allocations do.
_ALIGNMENT_BYTES = 256


class DeviceEvent(Protocol):
    """A point in a stream's work; `torch.cuda.Event` is one."""

    def query(self) -> bool:
        """Tell whether the device has reached it."""

    def synchronize(self) -> None:
        """Wait on the host until the device has reached it."""


class DeviceStream:
    """The stream of one thread; inside `with`, PyTorch, DALI and our kernels put their work on it.

    `with` may be nested.

    Args:
        device: a CUDA device; on any other device, every method does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._entered: list[contextlib.ExitStack] = []

    @property
    def handle(self) -> int:
        """CUDA's handle of the stream, for other libraries; 0 without CUDA."""
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    def __enter__(self) -> Self:
        entered = contextlib.ExitStack()
        if self._stream is not None:
            # What this thread has prepared so far, such as weights, lies on its earlier stream.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            entered.enter_context(torch.cuda.stream(self._stream))
        self._entered.append(entered)
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.pop().close()

    def record(self) -> DeviceEvent | None:
        """Return an event after all work that is on the stream now; None without CUDA."""
        if self._stream is None:
            return None
        event: DeviceEvent = self._stream.record_event()
        return event

    def wait(self, event: DeviceEvent | None) -> None:
        """Make later work of the stream start after the event; the host does not wait."""
        if self._stream is not None and event is not None:
            self._stream.wait_event(event)

    def shared(self) -> contextlib.AbstractContextManager[object]:
        """Let the calling thread put its work on this stream for the block, beside its own thread.

        CUDA keeps the order in which the threads put it there.
        """
        if self._stream is None:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._stream)

    def finish(self) -> None:
        """Wait on the host until all work that is on the stream now is done, without spinning."""
        if self._stream is not None:
            event: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            event.record(self._stream)
            event.synchronize()

    def keep(self, tensor: Tensor) -> None:
        """Note that the stream uses a tensor of another stream.

        PyTorch then gives the tensor's memory to nobody else before this stream's work is done. It
        has no effect on memory that PyTorch did not allocate.
        """
        if self._stream is not None:
            tensor.record_stream(self._stream)


class HostUpload:
    """Copies NumPy arrays to a CUDA device on the current stream; the host does not wait.

    The arrays are first copied into page-locked memory, because CUDA copies asynchronously from
    such memory only. They may be changed as soon as the call returns. A page-locked buffer is
    filled again only after the event that follows its last copy. The current stream must be the
    same in all calls, or the caller must order the streams. The first calls, and those with more
    bytes than before, allocate page-locked memory, for which CUDA may wait for the device.

    Args:
        device: the CUDA device.
        max_buffers: number of copies that may be under way; the next call waits for the oldest.
    """

    def __init__(self, device: torch.device, *, max_buffers: int = 3) -> None:
        self._device = device
        self._max_buffers = max_buffers
        self._under_way: collections.deque[tuple[DeviceEvent, Tensor]] = collections.deque()

    def __call__(self, arrays: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return a uint8 tensor on the device for each array; the tensors share one allocation."""
        starts, size = _layout(arrays)
        buffer = self._take(size)
        memory = buffer.numpy()
        for array, start in zip(arrays, starts, strict=True):
            np.copyto(memory[start : start + array.size].reshape(array.shape), array)
        # A buffer whose copy fails is not used again.
        on_device = _copied(buffer[:size], self._device)
        event = torch.cuda.current_stream(self._device).record_event()
        self._under_way.append((event, buffer))
        return [
            on_device[start : start + array.size].view(array.shape)
            for array, start in zip(arrays, starts, strict=True)
        ]

    def _take(self, size: int) -> Tensor:
        """Return a page-locked buffer of at least `size` bytes that no copy reads."""
        if self._under_way:
            event, buffer = self._under_way[0]
            if len(self._under_way) >= self._max_buffers:
                event.synchronize()
            if event.query():
                self._under_way.popleft()
                if buffer.numel() >= size:
                    return buffer
        # Powers of two, so that a few more frames than last time rarely need a new buffer.
        return _page_locked(1 << (size - 1).bit_length())


def _layout(arrays: Sequence[NDArray[np.uint8]]) -> tuple[list[int], int]:
    """Return where each array starts, and the size of all, in bytes."""
    starts = []
    size = 0
    for array in arrays:
        starts.append(size)
        size += -(-array.size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return starts, size


def _page_locked(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def _copied(host: Tensor, device: torch.device) -> Tensor:
    return host.to(device, non_blocking=True)
