"""PyCUDA's few calls that the staging uses, in host memory; its rules are errors if broken.

A copy is done only when something waits for it, and it reads its buffer only then: a buffer that
is filled again too early, or freed, gives wrong bytes. Each call needs the context on the calling
thread's stack. `tests/model/test_pycuda_contract.py` holds this to the real package.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import pycuda_memory
from tests.support.fake_cuda import FakeCuda, FakeStream

POISON_FREED = 0xDD


class Error(Exception):
    """Base of PyCUDA's errors; not a RuntimeError."""


class LogicError(Error):
    """A call that the driver refuses."""


class FakeContext:
    """A primary context; `Context` of the real package."""

    def __init__(self, driver: FakeDriver, gpu: int) -> None:
        self._driver = driver
        self.gpu = gpu
        self.thread = threading.get_ident()
        self.is_valid = True

    def push(self) -> None:
        """Put it on the stack of the calling thread."""
        assert self.is_valid, "a context was pushed after it was let go"
        self._driver.stack.append(self)

    def detach(self) -> None:
        """Let go of it; the real one stays on CUDA's own stack of the thread."""
        if not self.is_valid:
            raise LogicError("context::detach failed: cannot detach from invalid context")
        assert self._driver.stack[-1:] == [self], "let go of while it was not current"
        live = [each for each in self._driver.live if each.context is self]
        assert not live, f"{len(live)} buffers outlive their context"
        assert self not in self._driver.streams, "a stream outlives its context"
        self._driver.stack.pop()
        self.is_valid = False
        self._driver.detached += 1


class FakePycudaStream:
    """A stream; PyTorch's view of it is the `FakeStream` below."""

    def __init__(self, driver: FakeDriver, flags: int) -> None:
        driver.needs_context("Stream")
        assert flags == 1, "not CU_STREAM_NON_BLOCKING"
        self._driver = driver
        self._context = driver.stack[-1]
        self.handle = next(driver.handles)
        self.below = FakeStream(driver.cuda, f"pycuda {self.handle}")
        driver.cuda.external[self.handle] = self.below
        driver.streams.append(self._context)

    def __del__(self) -> None:
        # An assertion would be lost here.
        if self._driver.stack[-1:] != [self._context]:
            self._driver.leaks.append("a stream was destroyed without its context")
        del self._driver.cuda.external[self.handle]
        self._driver.streams.remove(self._context)

    def synchronize(self) -> None:
        """Do all work."""
        self._driver.needs_context("Stream.synchronize")
        self.below.synchronize()

    def is_done(self) -> bool:
        """Tell whether no work is left."""
        self._driver.needs_context("Stream.is_done")
        return not self.below._work


class FakeAllocation:
    """What a page-locked array's `base` is."""

    def __init__(self, driver: FakeDriver, size: int) -> None:
        self._driver = driver
        self.context = driver.stack[-1]
        self.memory = np.full(size, 0xEE, np.uint8)
        driver.live.append(self)
        self.__array_interface__ = self.memory.__array_interface__

    def free(self) -> None:
        """Give the memory back."""
        self._driver.needs_context("free")
        assert self._driver.stack[-1] is self.context, "freed in another context"
        if self not in self._driver.live:
            raise LogicError("pagelocked_host_allocation::free failed: invalid resource handle")
        assert not any(source is self for source in self._driver.under_way), "freed while copied"
        self._driver.live.remove(self)
        self.memory[:] = POISON_FREED


class FakeDriver(types.ModuleType):
    """The module `pycuda.driver`.

    Attributes:
        live: page-locked memory that was not freed.
        under_way: memory that copies which were not done read.
        flags: `mem_flags` of every allocation.
        streams: the contexts of the streams that exist.
        detached: number of contexts that were let go.
        leaks: what was freed without its context.
        failure: an error that the next call of the named function raises.
    """

    Error = Error
    LogicError = LogicError

    def __init__(self, cuda: FakeCuda, gpus: int = 1) -> None:
        super().__init__("pycuda.driver")
        self.cuda = cuda
        self.live: list[FakeAllocation] = []
        self.under_way: list[FakeAllocation] = []
        self.flags: list[int] = []
        self.streams: list[FakeContext] = []
        self.detached = 0
        self.leaks: list[str] = []
        self.failure: dict[str, Error] = {}
        self.handles = itertools.count(1000)
        self._threads = threading.local()
        self._gpus = gpus
        self.has_init = False
        self.host_alloc_flags = types.SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)
        self.Context = types.SimpleNamespace(pop=self._pop)

    @property
    def stack(self) -> list[FakeContext]:
        """The contexts of the calling thread."""
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        stack: list[FakeContext] = self._threads.stack
        return stack

    def needs_context(self, name: str) -> None:
        """Fail as asked, and without a context."""
        if name in self.failure:
            raise self.failure.pop(name)
        if not self.stack or not self.stack[-1].is_valid:
            raise LogicError(f"{name} failed: invalid device context")

    def _pop(self) -> None:
        if not self.stack:
            raise LogicError("context::pop failed: cannot pop non-current context")
        self.stack.pop()

    def init(self, flags: int = 0) -> None:
        """Start the driver."""
        if "init" in self.failure:
            raise self.failure["init"]
        self.has_init = True

    def Device(self, ordinal: int) -> Any:  # noqa: N802
        """Return a device, whose primary context can be retained."""
        if not self.has_init:
            raise LogicError("cuDeviceGet failed: initialization error")
        if ordinal >= self._gpus:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")
        return types.SimpleNamespace(retain_primary_context=lambda: FakeContext(self, ordinal))

    def Stream(self, flags: int = 0) -> FakePycudaStream:  # noqa: N802
        """Make a stream."""
        return FakePycudaStream(self, flags)

    def pagelocked_empty(
        self, shape: int, dtype: Any, order: str = "C", mem_flags: int = 0
    ) -> NDArray[np.uint8]:
        """Lock memory."""
        self.needs_context("pagelocked_empty")
        self.flags.append(mem_flags)
        return np.asarray(FakeAllocation(self, shape * np.dtype(dtype).itemsize))

    def memcpy_htod_async(self, dest: int, src: NDArray[np.uint8], stream: Any = None) -> None:
        """Put a copy on a stream; it reads the source when the stream comes to it."""
        self.needs_context("memcpy_htod_async")
        assert stream is not None, "the copy would go on the default stream"
        address = src.ctypes.data
        found = [each for each in self.live if each.memory.ctypes.data == address]
        assert found, "not page-locked: the copy would not be asynchronous"
        (source,) = found
        self.under_way.append(source)

        def copy() -> None:
            ctypes.memmove(dest, address, src.nbytes)
            self.under_way.remove(source)

        stream.below.put("copy", copy)


def install(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, gpus: int = 1) -> FakeDriver:
    """Let `import pycuda.driver` find the fake; the project knows no context yet."""
    driver = FakeDriver(cuda, gpus)
    package = types.ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr(pycuda_memory, "_contexts", {})
    return driver
