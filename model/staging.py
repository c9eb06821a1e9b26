"""Copies of host memory to the GPU through a ring of page-locked buffers, on a stream of its own.

CUDA copies asynchronously from page-locked memory only. PyCUDA or PyTorch gives this memory. None
of it has run on a GPU yet.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import ConfigError
from model.device_streams import DeviceEvent
from model.pycuda_memory import PyCudaMemory, why_not_pycuda

__all__ = ["HostMemory", "HostUpload", "StagingChoice", "TorchMemory", "host_upload"]

StagingChoice = Literal["auto", "pycuda", "torch"]
_log = logging.getLogger(__name__)
# Each array starts at a multiple of this, as CUDA's own allocations do.
_ALIGNMENT_BYTES = 256
_CLOSE_SECONDS = 5.0


class HostMemory(Protocol):
    """Page-locked memory, and a stream that copies from it to one GPU.

    Attributes:
        name: `pycuda` or `torch`.
        reason: why it is not PyCUDA's; "" if it is.
    """

    name: str
    reason: str

    @property
    def stream(self) -> Any:
        """The stream of all copies, as PyTorch sees it."""

    def allocate(self, size: int) -> Tensor:
        """Return page-locked memory, uint8, in host memory."""

    def free(self, buffer: Tensor) -> None:
        """Give memory back that no copy reads."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Put a copy to the GPU on the stream; the host does not wait."""

    def close(self) -> None:
        """Wait for the copies and give everything back."""


class TorchMemory:
    """PyTorch's page-locked memory, and a stream of PyTorch's.

    Args:
        device: the CUDA device.
        reason: why it was chosen.
    """

    name = "torch"

    def __init__(self, device: torch.device, *, reason: str = "asked for") -> None:
        self._device = device
        self.reason = reason

    @functools.cached_property
    def stream(self) -> Any:
        """The stream of all copies; made with the first one."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def allocate(self, size: int) -> Tensor:
        """Return page-locked memory, uint8."""
        return _page_locked(size)

    def free(self, buffer: Tensor) -> None:
        """Do nothing: PyTorch uses the memory again once its last reference and copy are gone."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Put a copy on the stream; the host does not wait."""
        with torch.cuda.stream(self.stream):
            _copy(target, source)

    def close(self) -> None:
        """Do nothing: PyTorch keeps page-locked memory until its copies have been done."""


def host_upload(
    choice: StagingChoice,
    device: torch.device,
    *,
    on_wait: Callable[[], object] = lambda: None,
    on_copy: Callable[[int], object] = lambda size: None,
) -> HostUpload | None:
    """Return what copies frames to a device; None on a CPU.

    `auto` takes PyCUDA's memory where it works, in its plain form: the CPU caches it. Which memory
    is the fastest has not been measured; `benchmarks/staging.py` compares them on a GPU.

    Args:
        on_wait: called each time that a copy waits for an older one.
        on_copy: called with the number of bytes of each copy.

    Raises:
        ConfigError: `pycuda` was asked for and cannot be used.
    """
    if device.type == "cuda":
        gpu = torch.cuda.current_device() if device.index is None else device.index
        device = torch.device("cuda", gpu)
        reason = "asked for" if choice == "torch" else why_not_pycuda(gpu)
    else:
        reason = "the network runs on the CPU"
    if reason and choice == "pycuda":
        raise ConfigError(
            f"infer.staging: pycuda was asked for, but {reason}; PyCUDA needs a GPU with its driver"
            ' and pip install "cidc-stream[pycuda]"; or set infer.staging: auto'
        )
    if device.type != "cuda":
        return None
    if reason and choice == "auto":
        _log.info("PyTorch's page-locked memory is used, not PyCUDA's: %s", reason)
    memory = TorchMemory(device, reason=reason) if reason else PyCudaMemory(gpu)
    return HostUpload(device, memory=memory, on_wait=on_wait, on_copy=on_copy)


class HostUpload:
    """Copies NumPy arrays to a CUDA device; the host does not wait.

    The arrays are first copied into a page-locked buffer, so they may be changed as soon as the
    call returns. The copy to the GPU runs on the memory's own stream, beside the work of all other
    streams. This is why it is safe:

    1. Memory on the device is allocated by PyTorch with the copying stream as the current stream.
       PyTorch gives freed memory to later work of the same stream only, so a copy never
       overwrites memory of another stream, and need not wait for one.
    2. The caller's current stream waits for the event after the copy. The host does not.
    3. The caller's stream is noted on the tensors (`record_stream`). When they are dropped, PyTorch
       gives their memory to the next copy only after the work that the caller's stream had then.
       To use them on one more stream, order it and note it likewise.
    4. A buffer is filled again only after the event of its last copy. If all are under way, the
       call waits for the oldest.
    5. At the end, the stream is done before buffers are freed and before it is destroyed. Nothing
       is recorded on it afterwards: PyTorch records only on the streams that were noted.

    Calls of several threads take turns. The first calls, and those with more bytes than before,
    allocate page-locked memory, for which CUDA may wait for the device.

    Args:
        device: the CUDA device.
        memory: page-locked memory for this device, closed with this object; default: PyTorch's.
        max_buffers: number of copies that may be under way.
        on_wait: called each time that a call waits for the oldest copy.
        on_copy: called with the number of bytes of each copy.

    Attributes:
        memory: the page-locked memory.
        waits: number of calls that had to wait for the oldest copy.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        memory: HostMemory | None = None,
        max_buffers: int = 3,
        on_wait: Callable[[], object] = lambda: None,
        on_copy: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._device = device
        self.memory = TorchMemory(device) if memory is None else memory
        self._max_buffers = max_buffers
        self._on_wait = on_wait
        self._on_copy = on_copy
        self._under_way: collections.deque[tuple[DeviceEvent, Tensor]] = collections.deque()
        self._lock = threading.Lock()
        self._is_closed = False
        self.waits = 0

    def __call__(self, arrays: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """Return a uint8 tensor on the device for each array; the tensors share one allocation.

        Raises:
            RuntimeError: CUDA failed, memory is short, or this object is closed. The buffer of a
                call that failed is not used again.
        """
        starts, size = _layout(arrays)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the page-locked buffers have been freed")
            buffer = self._take(size)
            try:
                memory = buffer.numpy()
                for array, start in zip(arrays, starts, strict=True):
                    np.copyto(memory[start : start + array.size].reshape(array.shape), array)
                on_device, event = self._copied(buffer[:size])
            except BaseException:
                self._discard(buffer)
                raise
            self._under_way.append((event, buffer))
        self._on_copy(size)
        return [
            on_device[start : start + array.size].view(array.shape)
            for array, start in zip(arrays, starts, strict=True)
        ]

    def close(self) -> None:
        """Wait for the copies under way and free the buffers; again: do nothing.

        Tensors that were returned stay valid. If a call hangs, the end of the process frees them.
        """
        if not self._lock.acquire(timeout=_CLOSE_SECONDS):
            return
        try:
            if not self._is_closed:
                self._is_closed = True
                self._under_way.clear()
                self.memory.close()
        finally:
            self._lock.release()

    def _copied(self, source: Tensor) -> tuple[Tensor, DeviceEvent]:
        """Put the copy on its stream; the current stream waits for it."""
        stream = self.memory.stream
        with torch.cuda.stream(stream):
            target = _device_memory(len(source), self._device)
        self.memory.copy(target, source)
        event = stream.record_event()
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        target.record_stream(current)
        return target, event

    def _take(self, size: int) -> Tensor:
        """Return a page-locked buffer of at least `size` bytes that no copy reads."""
        if self._under_way:
            event, buffer = self._under_way[0]
            if len(self._under_way) >= self._max_buffers and not event.query():
                self.waits += 1
                self._on_wait()
                event.synchronize()
            if event.query():
                self._under_way.popleft()
                if buffer.numel() >= size:
                    return buffer
                self.memory.free(buffer)
        # Powers of two, so that a few more frames than last time rarely need a new buffer.
        return self.memory.allocate(1 << (size - 1).bit_length())

    def _discard(self, buffer: Tensor) -> None:
        """Free the buffer of a call that failed; a copy of it may be under way."""
        # If the device is lost, the buffer is kept until the end.
        with contextlib.suppress(RuntimeError):
            self.memory.stream.synchronize()
            self.memory.free(buffer)


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


def _device_memory(size: int, device: torch.device) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def _copy(target: Tensor, source: Tensor) -> None:
    target.copy_(source, non_blocking=True)
