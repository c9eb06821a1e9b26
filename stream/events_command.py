"""The command `events`: print the events of an outbox or of a Kafka topic."""

from __future__ import annotations

import argparse
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from configs import (
    ConfigError,
    StrictModel,
    check_tree,
    has_controls,
    print_table,
    printable,
    readable,
)
from stream.console.event_lines import event_line, place, second_look
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.event import ActionEvent
from stream.events.skipped_kinds import SkippedKinds

__all__ = ["EventSections", "add_events_command", "read_sections"]

_log = logging.getLogger(__name__)
_COLUMNS = ("started at", "camera", "kind", "action", "confidence", "stream seconds", "reason")


class EventSections(StrictModel):
    """The sections of a pipeline configuration that `events` uses; the others are not checked."""

    outbox: OutboxConfig = Field(OutboxConfig(), description="event store")
    kafka: KafkaConfig = Field(KafkaConfig(), description="broker")
    # The names of the other sections are listed so that a misspelt section is an error.
    cameras: Any = None
    cameras_from: Any = None
    source: Any = None
    clip: Any = None
    batch: Any = None
    infer: Any = None
    events: Any = None
    snapshots: Any = None
    log: Any = None
    http: Any = None
    verify: Any = None
    webhooks: Any = None
    mqtt: Any = None
    tracing: Any = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty(cls, tree: Any) -> Any:
        """Take `kafka:` with nothing under it as a section of defaults."""
        if not isinstance(tree, dict):
            return tree
        return {name: section for name, section in tree.items() if section is not None}


def add_events_command(commands: Any) -> None:
    """Add the command `events` with its options."""
    events = commands.add_parser("events", help="read events from an outbox or a broker")
    source = events.add_mutually_exclusive_group()
    source.add_argument(
        "--outbox",
        type=Path,
        help="outbox database; outbox.db unless the configuration names another",
    )
    source.add_argument("--bootstrap", metavar="HOST:PORT", help="Kafka broker")
    events.add_argument(
        "--topic", help="Kafka topic; action-events unless the configuration names another"
    )
    events.add_argument(
        "--group",
        help="consumer group: go on where it left off, and share the topic with its other readers",
    )
    events.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="pipeline configuration with the kafka section to connect by",
    )
    events.add_argument(
        "--rejected",
        action="store_true",
        help="instead, the dead letters of the outbox: refused events, each with its error",
    )
    events.add_argument(
        "--follow",
        action="store_true",
        help=(
            "go on printing new events; beside a publisher, follow the topic: what it has sent is"
            " no longer in the outbox"
        ),
    )
    events.add_argument("--format", choices=("table", "jsonl"), default="table")
    events.set_defaults(run=_events)


def _events(options: argparse.Namespace) -> int:
    _check_options(options)
    if options.rejected:
        from stream.events.outbox_reader import read_dead_letters

        for payload, error, sink in read_dead_letters(options.outbox):
            print(json.dumps({"sink": sink, "error": error, "event": payload}))
        return 0
    skipped = SkippedKinds()
    try:
        _print(options, _source(options, skipped))
    finally:
        if skipped.total:
            _log.warning("skipped events of kinds that this version does not know: %s", skipped)
    return 0


def _print(options: argparse.Namespace, events: Iterator[ActionEvent]) -> None:
    if options.format == "jsonl":
        for event in events:
            print(event.to_json(), flush=options.follow)
    elif options.follow:
        for event in events:
            print(printable(event_line(event)), flush=True)
    else:
        print_table(_COLUMNS, map(_row, events))


def _row(event: ActionEvent) -> tuple[str, ...]:
    span = f"{event.pts_start_seconds:.1f}"
    if event.pts_end_seconds is not None:
        span += f" to {event.pts_end_seconds:.1f}"
    return (
        event.started_at,
        place(event),
        event.kind,
        event.action,
        f"{event.confidence:.2f}",
        span,
        event.reason or second_look(event) or "",
    )


def _check_options(options: argparse.Namespace) -> None:
    """Take what is not given from the configuration, and refuse what would do nothing.

    Raises:
        ConfigError: options that do not go together.
    """
    sections = read_sections(options.config) if options.config else None
    kafka = sections.kafka.model_dump() if sections else {}
    kafka |= {"bootstrap": options.bootstrap} if options.bootstrap else {}
    kafka |= {"topic": options.topic} if options.topic else {}
    if options.outbox is not None:
        kafka["bootstrap"] = ()
    options.kafka = check_tree(kafka, KafkaConfig, name="kafka")
    options.outbox = options.outbox or (sections.outbox if sections else OutboxConfig()).path
    if options.group is not None and (not options.group or has_controls(options.group)):
        raise ConfigError(
            f"--group '{readable(options.group)}': give a name without control characters"
        )
    from_broker = bool(options.kafka.bootstrap) and not options.rejected
    if (options.group or options.topic) and not from_broker:
        raise ConfigError(
            "--group and --topic are for a broker: give --bootstrap, or a --config that names one"
        )
    if options.rejected and (options.bootstrap or options.follow):
        raise ConfigError(
            "--rejected lists events of an outbox as they are now; it does not go with --bootstrap"
            " or --follow"
        )


def read_sections(path: Path) -> EventSections:
    """Read the sections `outbox` and `kafka` of a pipeline configuration.

    Raises:
        ConfigError: the file cannot be read, a setting is wrong, or PyYAML is not installed.
    """
    try:
        from configs import load_config

        return load_config(path, EventSections)
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise ConfigError(
            "--config needs PyYAML to read the file: pip install 'cidc-stream-client[yaml]'"
        ) from None


def _source(options: argparse.Namespace, skipped: SkippedKinds) -> Iterator[ActionEvent]:
    from stream.events.consumer import read_outbox, read_topic

    if not options.kafka.bootstrap:
        return read_outbox(options.outbox, follow=options.follow, skipped=skipped)
    return read_topic(
        options.kafka,
        threading.Event(),
        follow=options.follow,
        group=options.group,
        skipped=skipped,
    )
