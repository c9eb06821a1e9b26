"""Lets SIGTERM and Ctrl-C stop a command after its current step; the command saves its state."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

__all__ = ["run_until_stopped"]


def run_until_stopped(work: Callable[[threading.Event], int]) -> int:
    """Call `work` with an event, and set the event when a signal asks this process to stop.

    `work` must then save its state and raise StoppedError. A second Ctrl-C interrupts it at once.

    Returns:
        The exit status that `work` returns, or, after a signal, 128 plus the signal number.
    """
    from train.engine.trainer import StoppedError

    stop = threading.Event()
    caught: list[int] = []

    def ask_to_stop(number: int, _: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        stop.set()

    before = {
        number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return work(stop)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        # If this process received no signal, it stopped because another rank received one.
        return 128 + (caught[0] if caught else signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
