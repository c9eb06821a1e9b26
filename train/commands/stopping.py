"""Commands that SIGTERM and Ctrl-C stop after the current step, with their state saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

__all__ = ["run_until_stopped"]


def run_until_stopped(work: Callable[[threading.Event], int]) -> int:
    """Run `work`, and set its event when a signal asks this process to stop.

    `work` then saves its state and raises StoppedError. A second Ctrl-C interrupts it at once.

    Returns:
        The exit status: that of `work`, or 128 and the number of the signal.
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
        # Without a signal of its own, this process was stopped because another rank was.
        return 128 + (caught[0] if caught else signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
