"""Lines to standard output that never hold anything up."""

from __future__ import annotations

import collections
import logging
import os
import sys
import threading

__all__ = ["Printer"]

_log = logging.getLogger(__name__)
_MOST_LINES = 10_000


class Printer:
    """Lines to standard output from a thread of its own: a full disk or a reader that does not read
    stops nothing else.

    Lines that cannot be written in time are left out, the oldest first; after an error nothing more
    is written.
    """

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=_MOST_LINES)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Write a line some time; never waits."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self, timeout_seconds: float = 3.0) -> None:
        """Write what waits, for at most this long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._lines or self._closing)
                    if not self._lines:
                        return
                    line = self._lines.popleft()
                _write(line + "\n")
        except OSError as error:
            _log.warning(
                "nothing more is printed: standard output cannot be written (%s)", error.strerror
            )


def _write(text: str) -> None:
    """Past Python's buffer, whose lock a blocked writer would hold when the program ends."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError):  # not a file: a test's buffer
        sys.stdout.write(text)
        return
    data = text.encode(sys.stdout.encoding or "utf-8", errors="replace")
    while data:
        data = data[os.write(descriptor, data) :]
