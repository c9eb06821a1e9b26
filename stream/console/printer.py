"""The printer writes lines to standard output without delaying the caller."""

from __future__ import annotations

import collections
import logging
import os
import sys
import threading

from stream.stage import Stage

__all__ = ["Printer"]

_log = logging.getLogger(__name__)
_MAX_LINES = 10_000


class Printer(Stage):
    """Writes lines to standard output in a separate thread.

    A full disk or a slow reader therefore blocks only this thread. If too many lines wait, the
    oldest are dropped; after an error, no more lines are written.
    """

    def __init__(self) -> None:
        super().__init__("printer")
        self._lines: collections.deque[str] = collections.deque(maxlen=_MAX_LINES)
        self._changed = threading.Condition()
        self._closing = False

    def print(self, line: str) -> None:
        """Queue a line for printing; return at once."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self, timeout_seconds: float = 3.0) -> None:
        """Write the queued lines, for at most `timeout_seconds`, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join(timeout_seconds)

    def run(self) -> None:
        """Write lines until `close` was called and the queue is empty."""
        try:
            while (line := self._next()) is not None:
                self.beat()
                _write(line + "\n")
        except OSError as error:
            _log.warning(
                "Standard output cannot be written (%s); nothing more is printed", error.strerror
            )

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            return self._lines.popleft() if self._lines else None


def _write(text: str) -> None:
    """Write text to standard output without Python's buffer.

    A blocked writer would hold the lock of that buffer and block the exit of the program.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):  # standard output is not a file, as in tests
        sys.stdout.write(text)
        return
    data = text.encode(sys.stdout.encoding or "utf-8", errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]
