"""`python -m stream`: run the pipeline, check a configuration, read events, change cameras."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import ConfigError, exit_status, printable, program_name, readable
from stream.cameras_command import add_cameras_command
from stream.console.config import LogConfig
from stream.console.logs import set_up_logs
from stream.discover_command import add_discover_command
from stream.events_command import add_events_command

if TYPE_CHECKING:
    from stream.config import StreamConfig

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 if a run failed or lost events, 2 for a
    configuration that cannot be used.
    """
    return exit_status(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    set_up_logs(LogConfig())
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("stream"), description="Recognise actions in camera streams."
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
    run.add_argument(
        "--devices",
        metavar="DEVICE,...",
        help="start one worker process per device, such as cuda:0,cuda:1 or cpu,cpu",
    )
    run.set_defaults(run=_run)
    check = commands.add_parser("check", help="validate a configuration without running it")
    _add_config(check)
    check.set_defaults(run=_check)
    add_events_command(commands)
    add_cameras_command(commands, _need_pipeline)
    add_discover_command(commands, _need_pipeline)
    _add_outbox_command(commands)
    return parser


def _add_outbox_command(commands: Any) -> None:
    outbox = commands.add_parser("outbox", help="send, copy or describe the events of an outbox")
    actions = outbox.add_subparsers(title="commands", required=True)
    drain = actions.add_parser(
        "drain", help="send the waiting events to Kafka, and remove what the broker acknowledges"
    )
    drain.add_argument("--bootstrap", metavar="HOST:PORT", help="Kafka broker")
    drain.add_argument(
        "--topic", help="Kafka topic; action-events unless the configuration names another"
    )
    drain.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="pipeline configuration with the kafka section to connect by",
    )
    drain.add_argument(
        "--seconds",
        type=_positive_seconds,
        metavar="SECONDS",
        help="stop after this long; kafka.drain_seconds unless given",
    )
    backup = actions.add_parser(
        "backup", help="copy an outbox into one file, also while a pipeline writes to it"
    )
    backup.add_argument(
        "--to", type=Path, required=True, metavar="COPY", help="file to write; it must not exist"
    )
    info = actions.add_parser("info", help="say what is in an outbox, and whether it is in use")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    for name, command in (("drain", drain), ("backup", backup), ("info", info)):
        command.add_argument("file", type=Path, metavar="FILE", help="outbox database")
        command.set_defaults(run=_outbox, action=name)


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


def _need_pipeline() -> None:
    """Refuse commands that the distribution for readers of events does not contain.

    Raises:
        ConfigError: only that distribution is installed.
    """
    if not Path(__file__).with_name("pipeline.py").is_file():
        raise ConfigError(
            "cidc-stream-client only reads events; to analyse or change cameras, uninstall it and"
            " install cidc-stream, which contains it"
        )


def _run(options: argparse.Namespace) -> int:
    _need_pipeline()
    stop = threading.Event()

    def end(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # a second signal ends it at once

    for number in (signal.SIGINT, signal.SIGTERM):
        # before anything that takes long: a start can be stopped in an orderly way, too
        signal.signal(number, end)
    from rich.console import Console

    from configs import load_config
    from model.runtime import keep_freed_memory
    from stream.config import StreamConfig
    from stream.console.live_table import LiveTable
    from stream.console.printer import Printer
    from stream.console.summary import summary_lines, write_summary
    from stream.health import HANGS_SECONDS
    from stream.pipeline import Pipeline
    from stream.service_manager import ServiceManager

    config = load_config(options.config, StreamConfig, options.set)
    set_up_logs(config.log)
    if options.devices is not None:
        return _run_workers(options, config, stop)
    keep_freed_memory()
    printer = Printer()
    pipeline = Pipeline(config)
    printer.start()
    try:
        with pipeline:
            if options.summary is not None:
                write_summary({}, options.summary)  # better to fail now than after the run
            table = LiveTable(pipeline, Console(), printer)
            pipeline.subscribe(lambda announcement: table.take(announcement.events))
            health = pipeline.health
            systemd = ServiceManager(
                health.checks, health.draining, max_silence_seconds=HANGS_SECONDS
            )

            def on_tick() -> None:
                systemd.beat()
                table.tick()

            with systemd, table:
                summary = pipeline.run(stop, duration_seconds=options.duration, on_tick=on_tick)
        if options.summary is not None:
            write_summary(summary, options.summary)
        for line in summary_lines(summary):
            printer.print(line)
    finally:
        printer.close()
    return 1 if pipeline.failed else 0


def _run_workers(options: argparse.Namespace, config: StreamConfig, stop: threading.Event) -> int:
    from stream.console.summary import summary_lines, write_summary
    from stream.health import HANGS_SECONDS
    from stream.local.dealing import parse_devices
    from stream.local.run import LocalWorkers
    from stream.service_manager import ServiceManager

    with LocalWorkers(config, parse_devices(options.devices)) as workers:
        if options.summary is not None:
            write_summary({}, options.summary)
        with ServiceManager(workers.checks, workers.draining, max_silence_seconds=HANGS_SECONDS):
            summary = workers.run(stop, duration_seconds=options.duration)
    if options.summary is not None:
        write_summary(summary, options.summary)
    for name, of_worker in summary["workers"].items():
        for line in summary_lines(of_worker) if of_worker else ["no summary: see the log"]:
            print(printable(f"worker {name}: {line}"))
    return 1 if summary["failed"] else 0


def _check(options: argparse.Namespace) -> int:
    _need_pipeline()
    from configs import load_config
    from stream.analysis.recogniser import Recogniser
    from stream.cameras.overrides import CameraOverrides
    from stream.config import StreamConfig, check_settings, overrides_path
    from stream.start_check import check_start

    config = load_config(options.config, StreamConfig, options.set)
    changes = CameraOverrides(overrides_path(config))
    cameras = changes.apply(config.cameras)
    spec = check_settings(config, cameras)
    note = check_start(config, cameras)
    Recogniser(config.infer)  # reads all weights and finds the device
    if note is not None:
        print(readable(f"note: {note}"))
    if (differs := changes.summary()) is not None:
        print(readable(differs))
    topic = config.cameras_from.topic
    what = f"{len(cameras)} cameras" if topic is None else f"cameras of the topic {topic}"
    print(f"ok: {what}, weights {spec.name} with {len(spec.labels)} labels")
    return 0


def _outbox(options: argparse.Namespace) -> int:
    _need_pipeline()
    from stream.outbox_command import back_up_outbox, drain, print_info

    return {"drain": drain, "backup": back_up_outbox, "info": print_info}[options.action](options)


if __name__ == "__main__":
    sys.exit(main())
