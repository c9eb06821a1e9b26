"""The command `results`: trains the networks of a plan and writes one page of results."""

from __future__ import annotations

import argparse
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import DataError, load_config, print_table, readable, write_file
from train.commands.options import add_settings
from train.commands.stopping import run_until_stopped

if TYPE_CHECKING:
    from train.results import ResultRuns, ResultsPlan, RunStatus
    from train.results.plan import PlannedRun

__all__ = ["add_commands", "prints_its_log"]

# Overrides of these settings say where files lie on one machine; the page does not repeat them.
_PATHS = ("data_root", "folder", "annotations", "truth", "train", "validation", "labels_from")


def add_commands(commands: Any) -> None:
    """Add the command `results`."""
    parser = commands.add_parser(
        "results", help="train networks on several sets with several seeds; write one page"
    )
    add_settings(parser, help_text="plan (YAML), such as configs/results.yaml")
    parser.add_argument(
        "--out", type=Path, default=Path(".work/results"), help="folder of the runs"
    )
    parser.add_argument(
        "--page", type=Path, default=Path("docs/results.md"), help="page of Markdown to write"
    )
    parser.add_argument(
        "--records",
        type=Path,
        default=Path("docs/results/runs.jsonl"),
        help="file with the results of finished runs; they count without their folders",
    )
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        help=(
            "regular expression, searched in names of runs, which are"
            " SET/foldN/NETWORK/CLIPS/seedN; other runs are not started, but stay in the page"
        ),
    )
    parser.add_argument(
        "--time-limit",
        type=_minutes,
        metavar="MINUTES",
        help="stop after this time, between two steps; the next call goes on",
    )
    parser.add_argument(
        "--jobs", type=int, choices=(1,), default=1, help="number of runs at once; only 1"
    )
    parser.add_argument(
        "--list", action="store_true", help="print what is done and what is left; start nothing"
    )
    parser.add_argument("--write-only", action="store_true", help="write the page; start nothing")
    parser.set_defaults(run=_results)


def prints_its_log(options: argparse.Namespace) -> bool:
    """Return whether the log is the output of the command, and not a result that it prints."""
    return options.run is _results and not (options.list or options.write_only)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 60 * 24 * 30:
        raise argparse.ArgumentTypeError(f"must be minutes above 0, at most a month, got {text!r}")
    return value


def _results(options: argparse.Namespace) -> int:
    """Do the runs that are left, and write the page; or only list, or only write."""
    from train.results import Records, ResultRuns, ResultsPlan, chosen, planned_runs

    if options.list and options.write_only:
        raise DataError("--list and --write-only exclude each other; give one of them")
    plan = load_config(options.config, ResultsPlan, options.set)
    runs = ResultRuns(plan, options.out, Records(options.records))
    planned = planned_runs(plan)
    wanted = chosen(planned, options.only)
    statuses = {run: runs.status(run) for run in planned}
    if options.list:
        _print_list({run: statuses[run] for run in wanted})
        return 0
    _write_page(plan, statuses, options)
    if options.write_only:
        print(f"wrote {options.page}")
        return 0

    def work(stop: threading.Event) -> int:
        return _work(plan, runs, wanted, statuses, stop, options)

    return run_until_stopped(work)


def _work(
    plan: ResultsPlan,
    runs: ResultRuns,
    wanted: list[PlannedRun],
    statuses: dict[PlannedRun, RunStatus],
    stop: threading.Event,
    options: argparse.Namespace,
) -> int:
    """Do one run after another; return 1 if one failed, otherwise 0."""
    from train.engine.trainer import StoppedError

    limit = threading.Event()
    timer = _timer(options.time_limit, limit, stop)
    try:
        for number, run in enumerate(wanted, start=1):
            if statuses[run].state not in ("done", "left out"):
                print(f"{number} of {len(wanted)}: {run.name}", flush=True)
            statuses[run] = runs.finish(run, stop)
            for other in statuses:
                if getattr(other, "start_name", None) == run.name:
                    statuses[other] = runs.status(other)
            _write_page(plan, statuses, options)
    except StoppedError:
        if not limit.is_set():
            raise
        print(f"stopped after {options.time_limit:g} minutes; the next call goes on")
    finally:
        if timer is not None:
            timer.cancel()
    failed = [run for run in wanted if statuses[run].state == "failed"]
    for run in failed:
        print(readable(f"failed: {run.name}: {statuses[run].reason}"))
    done = sum(statuses[run].state == "done" for run in wanted)
    print(f"{done} of {len(wanted)} runs are done; wrote {options.page}")
    return 1 if failed else 0


def _timer(
    minutes: float | None, limit: threading.Event, stop: threading.Event
) -> threading.Timer | None:
    """Start a timer that stops the work after some minutes; None: never."""
    if minutes is None:
        return None

    def reached() -> None:
        limit.set()
        stop.set()

    timer = threading.Timer(60 * minutes, reached)
    timer.daemon = True
    timer.start()
    return timer


def _write_page(
    plan: ResultsPlan, statuses: dict[PlannedRun, RunStatus], options: argparse.Namespace
) -> None:
    from train.results import results_page

    write_file(options.page, results_page(plan, statuses, command=_command(options)))


def _command(options: argparse.Namespace) -> str:
    words = ["python", "-m", "train", "results", "--config", str(options.config)]
    for override in options.set:
        if override.partition("=")[0].rpartition(".")[2] not in _PATHS:
            words += ["--set", override]
    return shlex.join(words)


def _print_list(statuses: dict[PlannedRun, RunStatus]) -> None:
    """Print the state of every run, and how long the others take."""
    from train.results import remaining_seconds

    rows = [
        (run.name, status.state, _seconds(status), status.reason)
        for run, status in statuses.items()
    ]
    done = sum(status.state == "done" for status in statuses.values())
    left_out = sum(status.state == "left out" for status in statuses.values())
    print_table(("run", "state", "seconds", "reason"), rows, title="runs of the plan")
    left = len(statuses) - done - left_out
    seconds = remaining_seconds(statuses)
    time = "time left: unknown, no run is done"
    if seconds is not None:
        time = f"time left: about {seconds / 3600:.1f} hours"
    print(f"{done} done, {left} left, {left_out} left out; {time}")


def _seconds(status: RunStatus) -> str:
    return "" if status.result is None else f"{status.result['seconds']:.0f}"
