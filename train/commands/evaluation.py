"""The commands `evaluate`, which measures accuracy on labelled clips, and `calibrate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import ConfigError, print_table
from train.commands.options import add_checkpoint, add_settings

if TYPE_CHECKING:
    from model.checkpoints.weights import ModelSpec
    from train.config import TrainConfig
    from train.evaluation.clip_accuracy import ModelComparison, Predictions

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the commands `evaluate` and `calibrate`."""
    parser = commands.add_parser(
        "evaluate", help="measure the accuracy of weights on labelled clips"
    )
    _add_videos(parser)
    parser.add_argument(
        "--versus",
        type=Path,
        metavar="WEIGHTS",
        help="compare with this weights file, by class and by pairs of confused classes",
    )
    _add_results(
        parser,
        "the confusion matrix, the reliability of probabilities and, with --versus, the comparison",
    )
    parser.set_defaults(run=_evaluate)
    parser = commands.add_parser(
        "calibrate", help="fit the temperature of weights on clips that training has not seen"
    )
    _add_videos(parser)
    parser.add_argument(
        "--out", type=Path, help="weights file to write; default: the file of --checkpoint"
    )
    _add_results(parser, "the reliability of probabilities before and after")
    parser.set_defaults(run=_calibrate)


def _add_videos(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--manifest", type=Path, help="manifest of the videos; default: data.validation"
    )
    parser.add_argument("--views", default="1x1", help="clips x crops of each video, such as 10x3")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out videos that cannot be read, up to data.max_bad_fraction",
    )


def _add_results(parser: argparse.ArgumentParser, drawn: str) -> None:
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help=f"also draw {drawn} into this folder"
    )


def _evaluate(options: argparse.Namespace) -> int:
    """Measure the accuracy of weights on labelled clips; with --versus, compare with others."""
    from model.runtime import keep_freed_memory
    from train.config import load_training
    from train.engine.run_log import write_json

    keep_freed_memory()
    config = load_training(options.config, options.set)
    predictions, spec = _predict(options.checkpoint, config, options)
    calibration = predictions.calibration()
    summary = predictions.summary() | {
        "temperature": spec.temperature,
        "views": options.views,
        "model": spec.name,
    }
    details: dict[str, object] = {
        "labels": list(predictions.labels),
        "confusion": predictions.confusion().tolist(),
        "reliability": calibration.reliability(),
    }
    if options.plots is not None:
        from train.evaluation.plots import plot_confusion, plot_reliability

        options.plots.mkdir(parents=True, exist_ok=True)
        plot_confusion(predictions, options.plots / "confusion.png", name=spec.name)
        plot_reliability({spec.name: calibration}, options.plots / "reliability.png")
    if options.versus is not None:
        details["versus"] = _compare_models(predictions, spec.name, config, options)
    print(json.dumps(summary, indent=2))
    if options.json is not None:
        write_json(options.json, summary | details)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    """Fit the temperature of weights, and write it into their file; the tensors stay the same."""
    from model.checkpoints.shipped import shipped_names
    from model.checkpoints.weights import replace_spec
    from model.runtime import keep_freed_memory
    from train.config import load_training
    from train.engine.run_log import write_json

    if options.out is None and str(options.checkpoint) in shipped_names():
        raise ConfigError(
            f"--checkpoint {options.checkpoint} ships with the package, which stays as it is; name"
            " the file to write with --out"
        )
    keep_freed_memory()
    config = load_training(options.config, options.set)
    predictions, spec = _predict(options.checkpoint, config, options)
    temperature = round(predictions.fit_temperature(), 4)
    out = options.out or options.checkpoint
    replace_spec(options.checkpoint, out, spec=spec.model_copy(update={"temperature": temperature}))
    before = predictions.calibration()
    after = predictions.at_temperature(temperature).calibration()
    found = {f"temperature {spec.temperature:g}": before, f"temperature {temperature:g}": after}
    if options.plots is not None:
        from train.evaluation.plots import plot_reliability

        options.plots.mkdir(parents=True, exist_ok=True)
        plot_reliability(found, options.plots / "reliability.png")
    if options.json is not None:
        facts = {"temperature": temperature, "temperature_before": spec.temperature}
        figures = {"before": before.summary(), "after": after.summary()}
        write_json(options.json, facts | {"videos": len(predictions.truth_N)} | figures)
    names = ("ece", "classwise_ece", "brier", "nll", "confidence", "accuracy")
    rows = ((name, *(f"{each.summary()[name]:.4f}" for each in (before, after))) for name in names)
    print_table(("figure", *found), rows, title=f"{len(predictions.truth_N)} videos")
    print(f"wrote {out}: temperature {temperature:g}, the same tensors")
    if temperature != spec.temperature:
        print("event thresholds belong to a temperature: run `python -m train tune` again")
    return 0


def _compare_models(
    predictions: Predictions, name: str, config: TrainConfig, options: argparse.Namespace
) -> dict[str, object]:
    """Print and draw the comparison with other weights; return it as a JSON object."""
    from train.evaluation.clip_accuracy import ModelComparison

    other, other_spec = _predict(options.versus, config, options)
    names = (other_spec.name, name)
    if other_spec.name == name:
        names = (f"{name} (--versus)", f"{name} (--checkpoint)")
    comparison = ModelComparison.of(other, predictions)
    _print_comparison(comparison, names)
    if options.plots is not None:
        from train.evaluation.plots import plot_comparison

        plot_comparison(comparison, names, options.plots / "versus.png")
    return {"model": names[0], **other.summary(), **comparison.summary()}


def _predict(
    checkpoint: Path, config: TrainConfig, options: argparse.Namespace
) -> tuple[Predictions, ModelSpec]:
    """Return the predictions for the manifest's videos, and the description of the weights."""
    from train.evaluation.clip_accuracy import parse_views
    from train.evaluation.weights_accuracy import evaluate_weights

    return evaluate_weights(
        checkpoint,
        options.manifest or config.data.validation,
        parse_views(options.views),
        config=config,
        max_bad_fraction=config.data.max_bad_fraction if options.allow_missing else 0.0,
    )


def _print_comparison(comparison: ModelComparison, names: tuple[str, str]) -> None:
    print_table(
        ("class", *names, "gain"),
        ((label, *_gain_cells(one, other)) for label, one, other in comparison.classes),
        title="Top-1 by class",
    )
    print_table(
        ("pair", *names, "gain"),
        ((f"{a} / {b}", *_gain_cells(one, other)) for a, b, one, other in comparison.pairs),
        title=f"Pairwise accuracy, pairs that {names[0]} confuses most",
    )


def _gain_cells(one: float, other: float) -> tuple[str, str, str]:
    return f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}"
