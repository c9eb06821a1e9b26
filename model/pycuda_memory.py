"""Page-locked memory of PyCUDA, and copies from it on PyCUDA's stream.

No other file imports PyCUDA.

This has not run on a GPU yet. It follows PyCUDA 2026.1's sources, and its tests drive the real
package with a driver that keeps CUDA's stacks of contexts in host memory.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PyCudaMemory", "why_not_pycuda"]

# CU_STREAM_NON_BLOCKING: legacy default streams, such as PyTorch's default, do not wait for it.
# PyCUDA has no name for it.
_NON_BLOCKING = 1
_PROBE_BYTES = 4096

_contexts: dict[int, _Context] = {}
_contexts_lock = threading.Lock()


def why_not_pycuda(gpu: int) -> str:
    """Say why PyCUDA cannot copy to a GPU from this process; "" if it can.

    It imports PyCUDA, retains the GPU's primary context, makes a stream and locks a page. The text
    is short enough for a metric's label.
    """
    try:
        memory = PyCudaMemory(gpu)
        try:
            memory.free(memory.allocate(_PROBE_BYTES))
        finally:
            memory.close()
    except RuntimeError as error:
        return str(error)
    return ""


class PyCudaMemory:
    """Page-locked memory for one GPU, and a stream that copies from it.

    PyCUDA works in the context that its own stack names for the calling thread. PyTorch uses the
    GPU's primary context, which each method pushes and pops again, so it is never left current for
    PyTorch's calls, and any thread may call. Do not call PyTorch between push and pop. A pop takes
    away exactly what the push added: what PyTorch has made current on the thread stays below.

    The primary context is retained once for each GPU of the process and let go when the process
    ends, after all memory. `Context.detach` leaves a primary context on CUDA's stack of the thread
    (PyCUDA 2026.1), so it would be wrong to let go of it before.

    Args:
        gpu: index of the GPU.
        is_write_combined: whether the memory passes by the CPU's caches. The host must then only
            write to it, in order; reading it is very slow.

    Raises:
        RuntimeError: PyCUDA is missing or cannot use the GPU; every method raises it if a call of
            CUDA fails. The text gives the reason.
    """

    name = "pycuda"
    reason = ""

    def __init__(self, gpu: int, *, is_write_combined: bool = False) -> None:
        self._stream: Any = None
        self._gpu = gpu
        self._context = _context(gpu)
        driver = self._context.driver
        self._flags = driver.host_alloc_flags.WRITECOMBINED if is_write_combined else 0
        self._live: dict[int, NDArray[np.uint8]] = {}
        with self._context.current():
            self._stream = driver.Stream(_NON_BLOCKING)
        self._context.memories.add(self)

    @functools.cached_property
    def stream(self) -> Any:
        """PyTorch's view of the stream; PyCUDA destroys the stream in `close`."""
        return torch.cuda.ExternalStream(  # type: ignore[no-untyped-call]
            self._stream.handle, device=torch.device("cuda", self._gpu)
        )

    def allocate(self, size: int) -> Tensor:
        """Return page-locked memory, uint8, in host memory; PyTorch does not know that it is."""
        with self._context.current() as driver:
            array = driver.pagelocked_empty(size, np.uint8, mem_flags=self._flags)
        tensor = torch.from_numpy(array)
        self._live[tensor.data_ptr()] = array
        return tensor

    def free(self, buffer: Tensor) -> None:
        """Give memory back that `allocate` returned and that no copy reads; it is invalid then."""
        array = self._live.pop(buffer.data_ptr())
        with self._context.current():
            _free(array)

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Put a copy on the stream; the host does not wait.

        Args:
            target: uint8 memory on the GPU that the stream may write to.
            source: the beginning of a buffer of `allocate`, as long as the target.
        """
        with self._context.current() as driver:
            driver.memcpy_htod_async(target.data_ptr(), source.numpy(), self._stream)

    def is_idle(self) -> bool:
        """Tell whether all copies have been done."""
        if self._stream is None:
            return True
        with self._context.current():
            return bool(self._stream.is_done())

    def close(self) -> None:
        """Wait for the copies, free all memory and destroy the stream; again: do nothing."""
        if self._stream is None:
            return
        with self._context.current() as driver:
            # After an error of the device nothing more is copied.
            with contextlib.suppress(driver.Error):
                self._stream.synchronize()
            while self._live:
                _free(self._live.popitem()[1])
            # Its last reference: it is destroyed here, in its context.
            self._stream = None
        self._context.memories.discard(self)

    def __del__(self) -> None:
        # PyCUDA frees nothing on a thread where the context is not current.
        with contextlib.suppress(RuntimeError):
            self.close()


def _free(array: NDArray[np.uint8]) -> None:
    allocation: Any = array.base
    allocation.free()


class _Context:
    """The primary context of a GPU, retained; and the memory that was allocated in it."""

    def __init__(self, driver: Any, gpu: int) -> None:
        self.driver = driver
        self.memories: weakref.WeakSet[PyCudaMemory] = weakref.WeakSet()
        with _errors(driver):
            driver.init()
            self._primary = driver.Device(gpu).retain_primary_context()

    @contextlib.contextmanager
    def current(self) -> Iterator[Any]:
        """Make the context current on the calling thread for PyCUDA; gives PyCUDA's driver."""
        with _errors(self.driver):
            self._primary.push()
            try:
                yield self.driver
            finally:
                self.driver.Context.pop()

    def let_go(self) -> None:
        """Free all memory and release the context; the process ends.

        A device that is still busy keeps its memory: the process must not wait for one that hangs.
        """
        try:
            memories = list(self.memories)
            if all(memory.is_idle() for memory in memories):
                for memory in memories:
                    memory.close()
                with _errors(self.driver):
                    self._primary.push()
                    self._primary.detach()  # PyCUDA takes it off its own stack
        except RuntimeError:
            return  # the driver has ended before, and has freed everything


def _context(gpu: int) -> _Context:
    driver = _imported()
    with _contexts_lock:
        if not _contexts:
            atexit.register(_let_go_of_all)
        if gpu not in _contexts:
            _contexts[gpu] = _Context(driver, gpu)
        return _contexts[gpu]


def _let_go_of_all() -> None:
    while _contexts:
        _contexts.popitem()[1].let_go()


def _imported() -> Any:
    try:
        with warnings.catch_warnings():
            # PyCUDA explains some import errors by warnings; the error itself follows.
            warnings.simplefilter("ignore")
            import pycuda.driver
    except ModuleNotFoundError as error:
        if error.name == "pycuda":
            raise RuntimeError("PyCUDA is not installed") from None
        raise RuntimeError(f"PyCUDA is incomplete: {error}") from None
    except ImportError as error:  # without a driver, or built for another one
        raise RuntimeError(f"PyCUDA cannot be imported: {error}") from None
    return pycuda.driver


@contextlib.contextmanager
def _errors(driver: Any) -> Iterator[None]:
    """Turn PyCUDA's errors, which share no base with PyTorch's, into RuntimeError."""
    try:
        yield
    except driver.Error as error:
        raise RuntimeError(f"PyCUDA: {error}") from error
