"""The end of a run: what the stages hold becomes events, and events that remain are reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from stream.analysis.backlog import Backlog
from stream.events.config import KafkaConfig
from stream.events.writer import EventWriter
from stream.stage import Stage

__all__ = ["announce_draining", "end_stages", "end_writer", "report_unsent"]

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.1


def end_stages(
    stages: Sequence[Stage], backlog: Backlog, storing: Stage, max_silence_seconds: float
) -> bool:
    """Wait until stages whose input is closed have used it up; return whether all did.

    If one fails or hangs, all are stopped and the backlog is cancelled.

    Args:
        stages: in the order in which their inputs end.
        backlog: between two of them.
        storing: the stage behind them; without it, their work leads nowhere.
        max_silence_seconds: a stage without a heartbeat for longer hangs.
    """

    def abort() -> None:
        backlog.cancel()
        for each in stages:
            each.stop()

    is_complete = True
    for stage in stages:
        while not stage.join(_TICK_SECONDS) and stage.silent_seconds < max_silence_seconds:
            if any(each.failure is not None for each in (*stages, storing)):
                abort()
        if stage.is_alive:
            is_complete = False
            abort()
            _log.error("the thread %s hangs; what waits for it is lost", stage.name)
    return is_complete and all(stage.failure is None for stage in stages)


def end_writer(writer: EventWriter, max_silence_seconds: float) -> bool:
    """Store the last events; return whether none was lost."""
    writer.close()
    writer.join(max_silence_seconds)
    if writer.lost:
        _log.error("%d events could not be stored and are lost", writer.lost)
    return writer.failure is None and writer.lost == 0


def announce_draining(events: int, kafka: KafkaConfig) -> None:
    """Say that the end of a run waits for events to be sent."""
    if events:
        _log.info(
            "sending the last %d events to Kafka at %s, for at most %g s; a second signal ends this"
            " at once, and what is not sent stays in the outbox",
            events,
            ", ".join(kafka.bootstrap),
            kafka.drain_seconds,
        )


def report_unsent(events: int, outbox: Path, kafka: KafkaConfig) -> None:
    """Say how many events were not sent at the end of a run, where they are, and what to do."""
    if events and kafka.bootstrap:
        _log.warning(
            "%d events could not be sent to Kafka at %s within %g s; they stay in the outbox %s."
            " The next run with this outbox sends them, or: cidc-stream outbox drain %s"
            " --config FILE",
            events,
            ", ".join(kafka.bootstrap),
            kafka.drain_seconds,
            outbox,
            outbox,
        )
