"""Decides when an endpoint that fails is left alone, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Circuit"]

_FIRST_PAUSE = 5.0
_MAX_PAUSE = 300.0


class Circuit:
    """Opens after several failures in a row; each further failure doubles the pause.

    After the pause, looks are sent again; a success closes the circuit. Any thread may call the
    methods.

    Args:
        failures: number of failures in a row after which the circuit opens.
        clock: returns monotonic time in seconds.
    """

    def __init__(self, failures: int = 3, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._open_until = float("-inf")
        self._pause = _FIRST_PAUSE

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be sent now."""
        return self._clock() < self._open_until

    def succeed(self) -> bool:
        """Note a success; return whether the circuit had been opened since the last one."""
        with self._lock:
            was_open = self._open_until > float("-inf")
            self._in_a_row = 0
            self._open_until = float("-inf")
            self._pause = _FIRST_PAUSE
        return was_open

    def fail(self, retry_after_seconds: float | None = None) -> float | None:
        """Note a failure; return the pause in seconds if it opens the circuit, otherwise None.

        Args:
            retry_after_seconds: pause that the endpoint asked for; at most 5 minutes are granted.
                It opens the circuit at once.
        """
        with self._lock:
            self._in_a_row += 1
            if retry_after_seconds is not None:
                pause = min(max(retry_after_seconds, 1.0), _MAX_PAUSE)
            elif self._in_a_row >= self._failures:
                pause = self._pause
                self._pause = min(2 * self._pause, _MAX_PAUSE)
            else:
                return None
            self._open_until = self._clock() + pause
        return pause
