"""`python -m train`: train, evaluate, write and check manifests, generate video, measure events."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from configs import exit_status, log_handler, program_name
from train.commands import arrow, attention, data, evaluation, events, results, scenes, training
from train.extra import require_plots

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 for success; 1 if some files are bad; 2 for bad input; 130 or 143 if the
        command was stopped.
    """
    return exit_status(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    require_plots(options)
    is_output = training.prints_its_log(options) or results.prints_its_log(options)
    stream = sys.stdout if is_output else sys.stderr
    logging.basicConfig(level=logging.INFO, handlers=[log_handler(stream)])
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("train"), description="Train and evaluate action recognition networks."
    )
    training.add_training_options(parser)
    commands = parser.add_subparsers(title="other commands")
    for group in (evaluation, training, results, scenes, arrow, data, events, attention):
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
