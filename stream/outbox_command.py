"""The commands `outbox`: send the events of an outbox, copy it, and say what is in it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs import ConfigError, OutboxError, check_tree, is_file, print_table, printable
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_backup import back_up, describe
from stream.events.outbox_lock import is_used
from stream.events.publisher import Publisher
from stream.events_command import read_sections
from stream.sinks.config import KAFKA

__all__ = ["DrainReport", "back_up_outbox", "drain", "drain_outbox", "print_info"]

_LOOK_SECONDS = 0.1
_LAST_SECONDS = 1.0  # for acknowledgements of what was sent when the time is over


@dataclasses.dataclass(frozen=True)
class DrainReport:
    """What became of the events of an outbox.

    Attributes:
        sent: number of events that the broker acknowledged; they are removed from the outbox.
        remaining: number of events that still wait for Kafka, or are kept for it.
        dead: number of events that the broker refused; they became dead letters.
        ended: number of `ended` events that were added for actions which a killed process left
            open; they count among the others, too.
        elsewhere: number of events that wait for other sinks only; a run delivers them.
    """

    sent: int
    remaining: int
    dead: int
    ended: int
    elsewhere: int = 0


def back_up_outbox(options: argparse.Namespace) -> int:
    """Run the command `backup`; return the exit status."""
    events = back_up(options.file, options.to)
    print(printable(f"copied {events} events to {options.to}"))
    return 0


def print_info(options: argparse.Namespace) -> int:
    """Run the command `info`; return the exit status."""
    info = describe(options.file)
    if options.json:
        print(json.dumps(dataclasses.asdict(info)))
        return 0
    oldest = "-"
    if info.oldest_at is not None:
        oldest = f"{info.oldest_at}, {info.oldest_seconds:,.0f} s ago"
    rows = {
        "version": f"{info.version} (this release writes {info.current_version})",
        "waiting events": str(info.waiting),
        **{f"  for sink {name}": str(count) for name, count in info.sinks.items()},
        "  for no sink": str(info.kept),
        "oldest of them": oldest,
        "open actions": str(info.open_actions),
        "dead letters": str(info.dead_letters),
        "cameras": str(info.cameras),
        "size": f"{info.size_bytes / 1e6:.1f} MB",
        "in use": "yes, by a running pipeline" if info.is_used else "no",
    }
    print_table(("outbox", str(options.file)), rows.items())
    return 0


def drain(options: argparse.Namespace) -> int:
    """Run the command `drain`; return the exit status: 0 if no event remains, otherwise 1."""
    kafka = _kafka(options)
    stop = threading.Event()
    _stop_at_signals(stop.set)
    seconds = kafka.drain_seconds if options.seconds is None else options.seconds
    report = drain_outbox(options.file, kafka, stop=stop, max_seconds=seconds)
    dead = f", {report.dead} refused: see events --rejected" if report.dead else ""
    ended = f" ({report.ended} of them end actions of a killed process)" if report.ended else ""
    others = f", {report.elsewhere} wait for other sinks" if report.elsewhere else ""
    print(printable(f"sent {report.sent} events{ended}, {report.remaining} remain{others}{dead}"))
    return 0 if report.remaining == 0 else 1


def drain_outbox(
    path: Path, kafka: KafkaConfig, *, stop: threading.Event, max_seconds: float
) -> DrainReport:
    """Send what waits for Kafka in an outbox, in order; remove what the broker acknowledges.

    Actions that a killed process left open are ended first, as the next run would do it.

    Args:
        stop: set to end early; what is not acknowledged stays in the outbox.
        max_seconds: time after which the rest stays in the outbox.

    Raises:
        OutboxError: there is no outbox at this path, or a pipeline uses it.
        BrokerError: the settings of the broker cannot be used.
    """
    if not is_file(path):
        raise OutboxError(f"outbox not found: {path}; name the file of outbox.path")
    if is_used(path):
        raise OutboxError(
            f"outbox {path}: a running pipeline uses it and sends its events itself; stop the"
            " pipeline first"
        )
    counts = {"sent": 0, "dead": 0}

    def count(name: str, events: int = 1) -> None:
        counts[name] += events

    outbox = Outbox(OutboxConfig(path=path))
    try:
        ended = len(outbox.close_open_events())
        publisher = Publisher(
            kafka.model_copy(update={"drain_seconds": _LAST_SECONDS}),
            outbox.of(KAFKA),
            lambda events: count("sent", events),
            on_dead_letter=lambda: count("dead"),
        )
        publisher.start()
        try:
            deadline = time.monotonic() + max_seconds
            while outbox.waiting(KAFKA) and time.monotonic() < deadline and not stop.is_set():
                stop.wait(_LOOK_SECONDS)
        finally:
            publisher.close()
        remaining = outbox.waiting(KAFKA)
        others = len(outbox) - remaining
        return DrainReport(counts["sent"], remaining, counts["dead"], ended, others)
    finally:
        outbox.close()


def _kafka(options: argparse.Namespace) -> KafkaConfig:
    """Return the settings of the broker: those of the configuration, then the options.

    Raises:
        ConfigError: no broker is named, or a setting is wrong.
    """
    fields: dict[str, Any] = {}
    if options.config is not None:
        fields = read_sections(options.config).kafka.model_dump()
    fields |= {"bootstrap": options.bootstrap} if options.bootstrap else {}
    fields |= {"topic": options.topic} if options.topic else {}
    kafka = check_tree(fields, KafkaConfig, name="kafka")
    if not kafka.bootstrap:
        raise ConfigError("no broker is named: give --bootstrap, or a --config that names one")
    return kafka


def _stop_at_signals(stop: Callable[[], None]) -> None:
    def end(number: int, _frame: object) -> None:
        stop()
        signal.signal(number, signal.SIG_DFL)  # a second signal ends it at once

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
