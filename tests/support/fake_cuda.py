"""Streams and events of CUDA without a device: their work is done only when somebody waits for it.

A read of memory that was filled again too early, or a wait for the network, therefore shows.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from model import staging

POISON = 0xEE


class FakeEvent:
    """A point in a fake stream's work."""

    def __init__(self, stream: FakeStream) -> None:
        self.stream = stream
        self.done = threading.Event()

    def query(self) -> bool:
        """Tell whether the stream has come this far."""
        return self.done.is_set()

    def synchronize(self) -> None:
        """Do the stream's work up to here; noted as a wait of the host."""
        self.stream.cuda.note_wait(self.stream.name)
        self.stream.advance(self)


class FakeStream:
    """Work in order. A stream that is `held` stands for a device that is busy for long."""

    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda = cuda
        self.name = name
        self.held = False
        self._work: collections.deque[tuple[str, Callable[[], None]]] = collections.deque()
        self._lock = threading.RLock()

    def put(self, name: str, action: Callable[[], None]) -> None:
        """Add work."""
        self._work.append((name, action))

    def record_event(self) -> FakeEvent:
        """Return an event after all work so far."""
        event = FakeEvent(self)
        self.put("event", event.done.set)
        return event

    def wait_event(self, event: FakeEvent) -> None:
        """Let later work start after the event."""
        self.put(f"after {event.stream.name}", lambda: event.stream.advance(event))

    def wait_stream(self, other: FakeStream) -> None:
        """Let later work start after the other stream's work so far."""
        self.wait_event(other.record_event())

    def synchronize(self) -> None:
        """Do all work; noted as a wait of the host."""
        self.cuda.note_wait(self.name)
        self.advance(self.record_event())

    def advance(self, event: FakeEvent) -> None:
        """Do work in order until the event is reached."""
        with self._lock:
            while not event.query():
                assert not self.held, f"something waits for stream {self.name}, which is busy"
                name, action = self._work.popleft()
                action()
                self.cuda.done.append((self.name, name))


class FakeCuda:
    """Takes the place of `torch.cuda` and of copies to the device.

    Attributes:
        done: stream and name of all work that was done, in order.
        waits: thread and stream of every wait of the host.
        kept: stream names that were given to `record_stream`.
        page_locked: all page-locked buffers of PyTorch that were allocated.
        owners: stream names that were current when memory on the device was allocated.
        external: streams of others, by their handle, as `torch.cuda.ExternalStream` finds them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, str]] = []
        self.waits: list[tuple[str, str]] = []
        self.kept: list[str] = []
        self.page_locked: list[Tensor] = []
        self.owners: list[str] = []
        self._on_device: list[Tensor] = []  # memory that was dropped stays the allocator's
        self.external: dict[int, FakeStream] = {}
        self.streams: list[FakeStream] = []
        self.default = FakeStream(self, "default")
        self._threads = threading.local()
        monkeypatch.setattr(torch.cuda, "Stream", self._new_stream)
        monkeypatch.setattr(torch.cuda, "stream", self._entered)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self.current())
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda tensor, stream: self.kept.append(stream.name)
        )
        monkeypatch.setattr(
            torch.cuda, "ExternalStream", lambda handle, device: self.external[handle]
        )
        monkeypatch.setattr(staging, "_page_locked", self._page_locked)
        monkeypatch.setattr(staging, "_device_memory", self._device_memory)
        monkeypatch.setattr(staging, "_copy", self._copy)

    def current(self) -> FakeStream:
        """Return the calling thread's stream."""
        stream: FakeStream = getattr(self._threads, "stream", self.default)
        return stream

    def note_wait(self, stream: str) -> None:
        """Note that the calling thread waits for a stream."""
        self.waits.append((threading.current_thread().name, stream))

    def _new_stream(self, device: Any = None) -> FakeStream:
        stream = FakeStream(self, f"stream {len(self.streams)}")
        self.streams.append(stream)
        return stream

    @contextlib.contextmanager
    def _entered(self, stream: FakeStream) -> Iterator[None]:
        before = self.current()
        self._threads.stream = stream
        try:
            yield
        finally:
            self._threads.stream = before

    def _page_locked(self, size: int) -> Tensor:
        self.page_locked.append(torch.full((size,), POISON, dtype=torch.uint8))
        return self.page_locked[-1]

    def _device_memory(self, size: int, device: torch.device) -> Tensor:
        self.owners.append(self.current().name)
        self._on_device.append(torch.full((size,), POISON, dtype=torch.uint8))
        return self._on_device[-1]

    def _copy(self, target: Tensor, source: Tensor) -> None:
        self.current().put("copy", lambda: target.copy_(source))


class FakeDali:
    """A graph that fills each output frame with its input's first value, on DALI's own stream."""

    def __init__(self, cuda: FakeCuda, height: int, width: int) -> None:
        self.cuda = cuda
        self.failure: Exception | None = None
        self._size = (height, width)
        self._stream = FakeStream(cuda, "dali")
        self._frames: list[Tensor] = []

    def feed_input(self, name: str, values: Any, cuda_stream: FakeStream | None = None) -> None:
        """Copy frames to DALI's memory on the given stream, as DALI does without `no_copy`."""
        if name != "frames":
            assert cuda_stream is None
            return
        assert cuda_stream is self.cuda.current()
        self._frames = [torch.full_like(value, POISON) for value in values]
        for own, value in zip(self._frames, values, strict=True):
            cuda_stream.put("feed", lambda own=own, value=value: own.copy_(value))
        self._stream.wait_stream(cuda_stream)

    def run(self, stream: FakeStream) -> tuple[FakeDali.Output]:
        """Compute on DALI's stream; `stream` waits for the result, the host does not."""
        if self.failure is not None:
            raise self.failure
        frames = self._frames
        result = torch.full(
            (len(frames), len(frames[0]), *self._size, 3), POISON, dtype=torch.uint8
        )

        def compute() -> None:
            for target, source in zip(result, frames, strict=True):
                target.copy_(source[:, :1, :1].expand_as(target))

        self._stream.put("resize", compute)
        stream.wait_stream(self._stream)
        return (self.Output(result),)

    class Output:
        """A DALI output with one tensor."""

        def __init__(self, tensor: Tensor) -> None:
            self._tensor = tensor

        def as_tensor(self) -> Tensor:
            """Return the tensor."""
            return self._tensor
