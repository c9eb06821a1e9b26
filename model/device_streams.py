"""A CUDA stream for each thread that uses the device.

On a CPU all of it does nothing. PyTorch puts work on the current stream of the calling thread; with
one stream for all threads, each small step would wait for the network's kernels.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol, Self

import torch
from torch import Tensor

__all__ = ["DeviceEvent", "DeviceStream"]


class DeviceEvent(Protocol):
    """A point in a stream's work; `torch.cuda.Event` is one."""

    def query(self) -> bool:
        """Tell whether the device has reached it."""

    def synchronize(self) -> None:
        """Wait on the host until the device has reached it."""


class DeviceStream:
    """The stream of one thread; inside `with`, PyTorch, DALI and our kernels put their work on it.

    Args:
        device: a CUDA device; on any other device, every method does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._current = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._stream is not None:
            # What this thread has prepared so far, such as weights, lies on its earlier stream.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            self._current.enter_context(torch.cuda.stream(self._stream))
        return self

    def __exit__(self, *exception: object) -> None:
        self._current.close()

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

    def keep(self, tensor: Tensor) -> None:
        """Note that the stream uses a tensor of another stream.

        PyTorch then gives the tensor's memory to nobody else before this stream's work is done. It
        has no effect on memory that PyTorch did not allocate.
        """
        if self._stream is not None:
            tensor.record_stream(self._stream)
