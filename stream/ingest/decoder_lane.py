"""One thread that calls the GPU's decoders of several cameras, one call at a time."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch

from configs import CidcError, MediaError
from model.device_streams import DeviceStream

__all__ = ["CallAbandonedError", "Closable", "DecoderLane", "LaneHungError", "Result"]

Result = TypeVar("Result")
_LOOK_SECONDS = 0.25
_log = logging.getLogger(__name__)


class Closable(Protocol):
    """What a lane keeps open."""

    def close(self) -> None:
        """Release it."""


class LaneHungError(MediaError):
    """A call into the decoder's library does not return."""


class CallAbandonedError(Exception):
    """The camera was stopped while it waited for its call."""


class _Call(Generic[Result]):
    """One call on its way through the thread; afterwards its result or its error."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._done = threading.Lock()  # cheaper than an event; released when the call is done
        self._done.acquire()
        self._result: Any = None
        self._error: Exception | None = None
        self.is_abandoned = False

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until the call is done; return whether it is."""
        return self._done.acquire(timeout=timeout_seconds)

    def run(self) -> None:
        """Make the call; called in the lane's thread."""
        try:
            self._result = self._work()
        except CidcError as error:
            self._error = error
        except Exception as error:  # the edge of the thread: other cameras need it
            _log.exception("a call of the GPU's decoder failed")
            self._error = MediaError(f"unexpected error ({type(error).__name__}), see the log")
        self._done.release()

    def result(self) -> Result:
        """Return the result of a call that is done, or raise its error."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # with its traceback it would keep decoders until the next collection
        result: Result = self._result
        return result


class DecoderLane:
    """A thread that makes the calls of several cameras, in the order in which they ask.

    A call may hang in the driver, and nothing can end it. The lane is then given up: its callers
    get an error, and its thread, a daemon, is left behind.

    Args:
        number: in the thread's name.
        device: where the decoders are.
        patience_seconds: a call that takes longer hangs.

    Attributes:
        stream: the CUDA stream of the lane's decoders, and of the conversion of their surfaces.
        is_given_up: whether the thread hangs or did so once; it is not used again.
        seats: number of cameras that use this lane; changed by the pool only.
        busy_seconds: time that its calls took.
    """

    def __init__(self, number: int, device: torch.device, patience_seconds: float) -> None:
        self.stream = DeviceStream(device)
        self.is_given_up = False
        self.seats = 0
        self.busy_seconds = 0.0
        self._patience_seconds = patience_seconds
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._busy_since: float | None = None
        self._resumed_monotonic = float("-inf")  # after the whole process stood still
        self._is_over = False
        self._open: set[Closable] = set()
        self._thread = threading.Thread(target=self._run, name=f"decoder-{number}", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Result], is_stopped: Callable[[], bool]) -> Result:
        """Run something in the lane's thread, and return what it returns.

        Args:
            is_stopped: asked several times a second; if it returns True, the call is abandoned.

        Raises:
            CallAbandonedError: the camera was stopped.
            LaneHungError: the thread hangs.
            CidcError: what the work raised, or the lane has ended.
        """
        call = _Call(work)
        self._calls.put(call)
        looked_at = time.monotonic()
        while not call.wait(min(_LOOK_SECONDS, self._patience_seconds)):
            now = time.monotonic()
            if now - looked_at > _LOOK_SECONDS + self._patience_seconds / 2:
                self._resumed_monotonic = now  # this thread did not run either
            looked_at = now
            if self.hangs():
                call.is_abandoned = True
                raise LaneHungError(
                    f"a call of the GPU's decoder did not return within {self._patience_seconds:g}"
                    " s; its thread is given up"
                )
            if is_stopped():
                call.is_abandoned = True
                raise CallAbandonedError
            if self._is_over:
                raise MediaError("the GPU's decoders are closed")
        return call.result()

    def post(self, work: Callable[[], object]) -> None:
        """Run something in the lane's thread, without waiting for it."""
        self._calls.put(_Call(work))

    def hangs(self) -> bool:
        """Return whether the thread hangs, or did so once."""
        since = self._busy_since
        if since is not None:
            seconds = time.monotonic() - max(since, self._resumed_monotonic)
            self.is_given_up = self.is_given_up or seconds > self._patience_seconds
        return self.is_given_up

    def keep(self, decoder: Closable) -> None:
        """Note an open decoder, to close it when the thread ends; called in the thread."""
        self._open.add(decoder)

    def close(self, decoder: Closable) -> None:
        """Close a decoder; called in the thread."""
        self._open.discard(decoder)
        decoder.close()

    @property
    def open_decoders(self) -> int:
        """Number of decoders that are not closed."""
        return len(self._open)

    def stop(self) -> None:
        """Ask the thread to end, after the calls that wait."""
        self._calls.put(None)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.is_abandoned:
                self._run_timed(call)
            del call  # it may refer to a decoder
            if self.is_given_up:
                break
        for decoder in list(self._open):
            self._run_timed(_Call(functools.partial(self.close, decoder)))
        self._is_over = True

    def _run_timed(self, call: _Call[Any]) -> None:
        self._busy_since = since = time.monotonic()
        call.run()
        self._busy_since = None
        self.busy_seconds += time.monotonic() - since
