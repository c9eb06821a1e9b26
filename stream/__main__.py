"""`python -m stream`: run the pipeline, check a configuration, read events."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from configs import CidcError, ConfigError, check_tree, load_config
from stream.console.config import LogConfig
from stream.console.logs import set_up_logs
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent
from stream.events.outbox_reader import read_dead_letters

__all__ = ["main"]

# On a terminal the table and the log share one console, so that neither overwrites the other.
_CONSOLE = Console() if sys.stdout.isatty() else Console(stderr=True)

_FILE_WIDTH = 160  # of a table that goes to a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 if a run failed or lost events, 2 for a
    configuration that cannot be used.
    """
    options = _parser().parse_args(arguments)
    set_up_logs(LogConfig())
    try:
        return int(options.run(options))
    except CidcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stream", description="Recognise actions in camera streams."
    )
    commands = parser.add_subparsers(title="commands", required=True)
    run = commands.add_parser("run", help="analyse the cameras of a configuration")
    _add_config(run)
    run.add_argument(
        "--duration", type=_positive_seconds, metavar="SECONDS", help="stop after this long"
    )
    run.add_argument(
        "--summary", type=Path, metavar="FILE", help="write counts and latencies as JSON at the end"
    )
    run.set_defaults(run=_run)
    check = commands.add_parser("check", help="validate a configuration without running it")
    _add_config(check)
    check.set_defaults(run=_check)
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
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="pipeline configuration (YAML)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting; repeatable",
    )


def _positive_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0 is needed, got {text!r}")
    return value


def _run(options: argparse.Namespace) -> int:
    stop = threading.Event()

    def end(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # a second signal ends it at once

    for number in (signal.SIGINT, signal.SIGTERM):
        # before anything that takes long: a start can be stopped in an orderly way, too
        signal.signal(number, end)
    from model.runtime import keep_freed_memory
    from stream.config import StreamConfig
    from stream.console.live_table import LiveTable
    from stream.console.printer import Printer
    from stream.console.summary import summary_lines, write_summary
    from stream.pipeline import Pipeline

    config = load_config(options.config, StreamConfig, options.set)
    set_up_logs(config.log)
    keep_freed_memory()
    printer = Printer()
    pipeline = Pipeline(config)
    printer.start()
    try:
        with pipeline:
            if options.summary is not None:
                write_summary({}, options.summary)  # better to fail now than after the run
            table = LiveTable(pipeline, _CONSOLE if sys.stdout.isatty() else Console(), printer)
            pipeline.subscribe(lambda announcement: table.take(announcement.events))
            with table as tick:
                summary = pipeline.run(stop, duration_seconds=options.duration, on_tick=tick)
        if options.summary is not None:
            write_summary(summary, options.summary)
        for line in summary_lines(summary):
            printer.print(line)
    finally:
        printer.close()
    return 1 if pipeline.failed else 0


def _check(options: argparse.Namespace) -> int:
    from stream.analysis.recogniser import Recogniser
    from stream.cameras.overrides import CameraOverrides
    from stream.config import StreamConfig, check_settings, overrides_path
    from stream.start_check import check_start

    config = load_config(options.config, StreamConfig, options.set)
    changes = CameraOverrides(overrides_path(config))
    cameras = changes.apply(config.cameras)
    spec = check_settings(config, cameras)
    note = check_start(config)
    Recogniser(config.infer)  # reads all weights and finds the device
    if note is not None:
        print(f"note: {note}")
    if (differs := changes.summary()) is not None:
        print(differs)
    print(f"ok: {len(cameras)} cameras, weights {spec.name} with {len(spec.labels)} labels")
    return 0


def _events(options: argparse.Namespace) -> int:
    _check_events(options)
    if options.rejected:
        for payload, error in read_dead_letters(options.outbox):
            print(json.dumps({"error": error, "event": payload}))
        return 0
    events = _source(options)
    from stream.console.event_lines import event_line, place

    if options.format == "jsonl":
        for event in events:
            print(event.to_json(), flush=options.follow)
        return 0
    if options.follow:
        for event in events:
            print(event_line(event), flush=True)
        return 0
    table = Table()
    for column in (
        "started at",
        "camera",
        "kind",
        "action",
        "confidence",
        "stream seconds",
        "reason",
    ):
        table.add_column(column, no_wrap=column in ("started at", "camera"))
    for event in events:
        span = f"{event.pts_start_seconds:.1f}" + (
            f" to {event.pts_end_seconds:.1f}" if event.pts_end_seconds is not None else ""
        )
        table.add_row(
            event.started_at,
            place(event),
            event.kind,
            event.action,
            f"{event.confidence:.2f}",
            span,
            event.reason or "",
        )
    (Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)).print(table)
    return 0


def _check_events(options: argparse.Namespace) -> None:
    """Take what is not given from the configuration, and refuse what would do nothing.

    Raises:
        ConfigError: options that do not go together.
    """
    from stream.config import StreamConfig
    from stream.events.config import KafkaConfig

    config = load_config(options.config, StreamConfig) if options.config else None
    kafka = config.kafka.model_dump() if config else {}
    kafka |= {"bootstrap": options.bootstrap} if options.bootstrap else {}
    kafka |= {"topic": options.topic} if options.topic else {}
    if options.outbox is not None:
        kafka["bootstrap"] = ()
    options.kafka = check_tree(kafka, KafkaConfig, name="kafka")
    options.outbox = options.outbox or (config.outbox.path if config else OutboxConfig().path)
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


def _source(options: argparse.Namespace) -> Iterator[ActionEvent]:
    from stream.events.consumer import read_outbox, read_topic

    if not options.kafka.bootstrap:
        return read_outbox(options.outbox, follow=options.follow)
    return read_topic(options.kafka, threading.Event(), follow=options.follow, group=options.group)


if __name__ == "__main__":
    sys.exit(main())
