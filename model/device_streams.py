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
