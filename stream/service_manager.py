"""Tell systemd that a run has started, is alive, and stops (the protocol of `sd_notify`).

systemd names a socket in the environment of a service of the type `notify`, and with `WatchdogSec`
the time after which it restarts a service that has given no sign of life. Without these variables
nothing happens here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Self

__all__ = ["ServiceManager"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_SEND_SECONDS = 1.0
_PER_INTERVAL = 4  # signs of life in the time after which systemd restarts the service
_NAME = "service-manager"


class ServiceManager:
    """A thread that sends the state of a run to systemd, while the context manager is entered.

    `READY=1` follows the start of the cameras. `WATCHDOG=1` is sent only while the check `live`
    passes, which is also what `/live` answers, so a run that hangs is restarted. `STOPPING=1` ends
    that, because the last events may take longer.

    Args:
        checks: the checks `startup` and `live`; each returns None or what is wrong.
        draining: set once the run is stopping.
        max_silence_seconds: a main thread that has called `beat` once and then not for this long
            hangs.
        environment: has `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, if systemd wants
            notices.
    """

    def __init__(
        self,
        checks: Mapping[str, Callable[[], str | None]],
        draining: threading.Event,
        *,
        max_silence_seconds: float,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._checks = checks
        self._draining = draining
        self._max_silence_seconds = max_silence_seconds
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._interval_seconds = _interval_seconds(environment)
        self._beat_monotonic: float | None = None
        self._over = threading.Event()
        self._status = ""
        self._thread = threading.Thread(target=self._watch, name=_NAME, daemon=True)

    def __enter__(self) -> Self:
        if self._address is not None:
            if self._interval_seconds is not None and not faulthandler.is_enabled():
                # systemd ends a service that hangs by SIGABRT. If this thread hangs too, because
                # another one holds the interpreter, the journal shows what that one did.
                faulthandler.enable()
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Note that the main thread moves."""
        self._beat_monotonic = time.monotonic()

    def _watch(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(_SEND_SECONDS)
            is_ready = False
            alive_at = time.monotonic()
            while not (self._over.is_set() or self._draining.is_set()):
                if not is_ready and self._checks["startup"]() is None:
                    is_ready = True
                    self._send(connection, "READY=1")
                problem = self._problem()
                self._show(connection, problem, is_ready=is_ready)
                if is_ready and problem is None and time.monotonic() >= alive_at:
                    alive_at = time.monotonic() + self._pause_seconds
                    self._send(connection, "WATCHDOG=1")
                self._draining.wait(min(_LOOK_SECONDS, self._pause_seconds))
            self._send(connection, "STOPPING=1\nSTATUS=ending actions and sending the last events")

    @property
    def _pause_seconds(self) -> float:
        interval = self._interval_seconds
        return threading.TIMEOUT_MAX if interval is None else interval / _PER_INTERVAL

    def _problem(self) -> str | None:
        """Return why the run is not alive; None if it is."""
        beat = self._beat_monotonic
        silent = 0.0 if beat is None else time.monotonic() - beat
        if silent > self._max_silence_seconds and not self._draining.is_set():
            return f"the main thread has not moved for {silent:.0f} s"
        return self._checks["live"]()

    def _show(self, connection: socket.socket, problem: str | None, *, is_ready: bool) -> None:
        """Let `systemctl status` say what the run does, and the log what is wrong."""
        status = "analysing cameras" if is_ready else "loading and warming up the network"
        if problem is not None:
            if self._interval_seconds is not None and not self._status.startswith("not alive"):
                _log.error(
                    "not alive: %s; systemd restarts the service if this goes on. Its threads:\n%s",
                    problem,
                    _threads(),
                )
            status = f"not alive: {problem}"
        if status != self._status:
            self._send(connection, f"STATUS={status}")
            self._status = status

    def _send(self, connection: socket.socket, notice: str) -> None:
        assert self._address is not None
        with contextlib.suppress(OSError):  # systemd may be restarting itself; the next one counts
            connection.sendto(notice.encode(), self._address)


def _threads() -> str:
    """Return what every thread does right now."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return "".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in frames
    )


def _address(name: str) -> str | None:
    """Return the address of a local socket; None for other kinds, which only machines use."""
    if name.startswith("@"):
        return "\0" + name[1:]  # a name that is not a file
    return name if name.startswith("/") else None


def _interval_seconds(environment: Mapping[str, str]) -> float | None:
    """Return the time after which systemd misses a sign of life; None if it does not watch."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is for another process, such as the one that started this one
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() and int(text) > 0 else None
