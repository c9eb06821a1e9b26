"""The command `attention`: measures on generated clips whether a network looks at the action."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import DataError, print_table, write_file
from train.commands.options import add_checkpoint

if TYPE_CHECKING:
    from model.network import ActionNetwork
    from train.evaluation.attention import AttentionResult

__all__ = ["add_commands"]

_EXAMPLES = ("fall", "walk_left", "raise_arm", "enter")


def add_commands(commands: Any) -> None:
    """Add the command `attention`."""
    parser = commands.add_parser(
        "attention", help="measure on generated clips whether the network looks at the action"
    )
    add_checkpoint(parser)
    parser.add_argument("--clips", type=int, default=4, help="number of clips of each action")
    parser.add_argument("--seed", type=int, default=0, help="seed of the clips")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--report", type=Path, help="also write a page of Markdown to this file")
    parser.add_argument(
        "--picture", type=Path, help="also draw the maps of a few clips (.png or .jpg)"
    )
    parser.set_defaults(run=_attention)


def _attention(options: argparse.Namespace) -> int:
    """Measure attention without and with distractors; print and write the figures."""
    from model.checkpoints.weights import load_model
    from train.engine.run_log import write_json
    from train.evaluation.attention import measure_attention
    from train.evaluation.attention_report import (
        HEADER,
        attention_json,
        attention_page,
        attention_rows,
    )
    from train.synthetic.attention_clips import DISTRACTORS, attention_clips

    if options.clips < 1 or options.seed < 0:
        raise DataError("--clips must be 1 or more, and --seed 0 or more")
    network = load_model(options.checkpoint)
    labels = _known_actions(network, options.checkpoint)
    results: dict[str, AttentionResult] = {}
    for distractor in DISTRACTORS:
        clips = attention_clips(labels, options.clips, seed=options.seed, distractor=distractor)
        results[distractor] = measure_attention(network, clips)
    assert network.spec is not None
    print_table(HEADER, attention_rows(results), title=f"Where {network.spec.name} looks")
    if options.json is not None:
        facts = {"model": network.spec.name, "clips": options.clips, "seed": options.seed}
        write_json(options.json, facts | attention_json(results))
    if options.report is not None:
        page = attention_page(results, model=network.spec.name, command=_command(options))
        write_file(options.report, page)
    if options.picture is not None:
        _draw_examples(network, labels, options)
    return 0


def _known_actions(network: ActionNetwork, checkpoint: Path) -> tuple[str, ...]:
    from train.synthetic.actions import BACKGROUND, LABELS

    assert network.spec is not None
    known = tuple(label for label in LABELS if label != BACKGROUND and label in network.spec.labels)
    if not known:
        raise DataError(
            f"{checkpoint} knows none of the actions of generated scenes, so where they happen"
            " cannot be compared with its maps; `python -m model maps` draws the maps of a video"
        )
    return known


def _draw_examples(
    network: ActionNetwork, labels: tuple[str, ...], options: argparse.Namespace
) -> None:
    from train.evaluation.attention_report import write_examples
    from train.synthetic.attention_clips import attention_clips

    shown = [label for label in _EXAMPLES if label in labels] or list(labels[:4])
    clips = attention_clips(shown, 1, seed=options.seed, distractor="person")
    write_examples(network, list(clips), options.picture)


def _command(options: argparse.Namespace) -> str:
    return (
        f"python -m train attention --checkpoint {options.checkpoint} --clips {options.clips}"
        f" --seed {options.seed} --report FILE"
    )
