"""Training runs: `python -m train` without a command, and the command `compare`."""

from __future__ import annotations

import argparse
import json
import threading
from typing import TYPE_CHECKING, Any

from configs import ConfigError, load_config, print_table, write_file
from train.commands.options import add_settings
from train.commands.stopping import run_until_stopped

if TYPE_CHECKING:
    from train.ablations import AblationConfig, RunResult

__all__ = ["add_commands", "add_training_options", "prints_its_log"]


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training run, which starts when no command is given."""
    add_settings(parser, required=False)
    parser.add_argument("--resume", action="store_true", help="continue from the saved state")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read the videos, build the network and run one step, but write no files",
    )
    parser.set_defaults(run=_train)


def add_commands(commands: Any) -> None:
    """Add the command `compare`."""
    parser = commands.add_parser(
        "compare", help="run the paper's ablations with several seeds; write tables and a plot"
    )
    add_settings(parser, help_text="ablations (YAML), such as configs/compare-scenes.yaml")
    parser.set_defaults(run=_compare)


def prints_its_log(options: argparse.Namespace) -> bool:
    """Return whether the log is the output of a command, and not a result that it prints."""
    return options.run in (_train, _compare) and not options.dry_run


def _train(options: argparse.Namespace) -> int:
    """Start or resume a training run; with --dry-run, run only one step."""
    from train.config import load_training
    from train.distributed import joined_ranks
    from train.engine.trainer import dry_run, train

    if options.config is None:
        raise ConfigError(
            "--config is needed to train: python -m train --config FILE; --help lists the other"
            " commands"
        )
    config = load_training(options.config, options.set)
    if options.dry_run:
        print(json.dumps(dry_run(config), indent=2))
        return 0

    def work(stop: threading.Event) -> int:
        with joined_ranks(config.device) as ranks:
            predictions = train(config, resume=options.resume, stop=stop, ranks=ranks)
        if ranks.is_first:
            print(json.dumps(predictions.summary(), indent=2))
        return 0

    return run_until_stopped(work)


def _compare(options: argparse.Namespace) -> int:
    """Run the paper's ablations, and write and print their results."""
    from train.ablations import AblationConfig, run_ablations
    from train.extra import require

    require("matplotlib", use="plots of the ablations")
    config = load_config(options.config, AblationConfig, options.set)

    def work(stop: threading.Event) -> int:
        _report_ablations(config, run_ablations(config, stop=stop))
        return 0

    return run_until_stopped(work)


def _report_ablations(config: AblationConfig, results: dict[str, list[RunResult]]) -> None:
    from train.ablations import markdown, result_rows
    from train.ablations.report import cells, header, tables_of
    from train.engine.run_log import write_json
    from train.evaluation.plots import plot_ablations

    rows = result_rows(config, results)
    write_json(config.out / "compare.json", {"seeds": list(config.seeds), "rows": rows})
    write_file(config.out / "compare.md", markdown(rows))
    title = f"{config.run.name}, {len(config.seeds)} seeds"
    plot_ablations(rows, config.out / "compare.png", title=title)
    for name, mine in tables_of(rows).items():
        print_table(header(mine), map(cells, mine), title=name)
    print(f"wrote compare.json, compare.md and compare.png into {config.out}")
