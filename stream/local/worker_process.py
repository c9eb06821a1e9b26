"""One worker process: a pipeline on one device, for `python -m stream run --devices`.

The parent writes the configuration into the standard input and keeps it open. When it closes,
because the parent has died, the worker stops as after SIGTERM. Messages go back through the pipe
whose number is the first argument, one JSON object per line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import sys
import threading
from typing import Any

from configs import exit_status

__all__ = ["main"]

# A worker without a parent that has not stopped this long after its events were to be sent hangs.
_STOP_SECONDS = 120.0
_STDIN = 0


def main(message_pipe: int) -> int:
    """Run a worker; return the exit status of the pipeline."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes it on as SIGTERM
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    return exit_status(lambda: _run(message_pipe, stop))


def _run(message_pipe: int, stop: threading.Event) -> int:
    with os.fdopen(os.dup(_STDIN), "rb") as parent:
        name, config = pickle.load(parent)
    from rich.console import Console

    from model.runtime import keep_freed_memory
    from stream.console.live_table import LiveTable
    from stream.console.logs import set_up_logs
    from stream.console.printer import Printer
    from stream.pipeline import Pipeline
    from stream.sinks.config import longest_drain

    _name_log_lines(name, is_text=config.log.format == "text")
    set_up_logs(config.log)
    keep_freed_memory()
    limit = longest_drain(config) + _STOP_SECONDS
    threading.Thread(target=_follow_parent, args=(stop, limit), daemon=True).start()
    messages = _Messages(message_pipe)
    printer = Printer()
    printer.start()
    try:
        with Pipeline(config, worker=name) as pipeline:
            messages.send(kind="started", http=pipeline.http.address if pipeline.http else None)
            table = LiveTable(pipeline, Console(force_terminal=False), printer)
            pipeline.subscribe(lambda announcement: table.take(announcement.events))

            def tick() -> None:
                table.tick()
                cameras = len(pipeline.cameras())
                messages.send_new(kind="ended", ended=pipeline.manager.all_ended(), cameras=cameras)

            summary = pipeline.run(stop, until_ended=False, on_tick=tick)
        messages.send(kind="summary", summary=summary)
    finally:
        printer.close()
    return 1 if pipeline.failed else 0


class _Messages:
    """Sends messages to the parent; nothing happens if it is gone."""

    def __init__(self, pipe: int) -> None:
        self._pipe = os.fdopen(pipe, "w", encoding="utf-8")
        self._latest: dict[str, Any] = {}

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):
            print(json.dumps(message), file=self._pipe, flush=True)

    def send_new(self, **message: Any) -> None:
        """Send a message, unless it is the same as the one before."""
        if message != self._latest:
            self._latest = message
            self.send(**message)


def _follow_parent(stop: threading.Event, limit_seconds: float) -> None:
    """Stop when the parent is gone, and end the process if it then hangs."""
    # Not through sys.stdin, whose lock this thread would hold while the interpreter ends.
    while os.read(_STDIN, 4096):
        pass
    stop.set()
    threading.Event().wait(limit_seconds)
    os._exit(1)


def _name_log_lines(name: str, *, is_text: bool) -> None:
    make = logging.getLogRecordFactory()

    def named(*arguments: Any, **fields: Any) -> logging.LogRecord:
        record = make(*arguments, **fields)
        record.worker = name
        if is_text:
            record.msg = f"worker {name}: {record.msg}"
        return record

    logging.setLogRecordFactory(named)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
