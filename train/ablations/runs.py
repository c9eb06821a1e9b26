"""Runs the ablations: every variant from the same backbone, with the same budget, for every seed.

Each seed first trains a backbone with average pooling. Every variant then starts from it and trains
on, so that all rows of a table have seen the same clips equally often. Finished runs are kept and
not repeated; one that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import threading
from pathlib import Path

from configs import ConfigError, DataError, with_current_names
from train.ablations.config import AblationConfig
from train.ablations.variants import variants
from train.config import TrainConfig
from train.data.clip_store import ClipStore
from train.data.loader import open_store
from train.engine.run_log import write_json
from train.engine.trainer import train

__all__ = ["RunResult", "run_ablations"]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The accuracy of one run.

    `pairs` is the mean pairwise accuracy on time-reversed actions (chance is 0.5), None if the
    labels have no such pairs. The names of the fields are those of `result.json`.
    """

    top1: float
    pairs: float | None


def run_ablations(
    config: AblationConfig, *, quiet: bool = False, stop: threading.Event | None = None
) -> dict[str, list[RunResult]]:
    """Run what has not been run yet.

    Returns:
        For each variant a result per seed.

    Raises:
        StoppedError: `stop` was set; the current run is saved, and the next call goes on there.
        DataError: the folder holds runs with other settings.
        CidcError: as `train`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "compare trains its runs one after the other in one process: start it without torchrun"
        )
    store = open_store(config.run.data, config.run.model.frames)
    results: dict[str, list[RunResult]] = {}
    for seed in config.seeds:
        backbone = _backbone_run(config, seed)
        _result_of(backbone, store, quiet, stop)
        for name, model in variants(config).items():
            changes = {
                "name": name,
                "model": model,
                "seed": seed,
                "out": config.out / f"{name}-seed{seed}",
                "backbone_from": backbone.out / "model.safetensors",
            }
            run = config.run.model_copy(update=changes)
            results.setdefault(name, []).append(_result_of(run, store, quiet, stop))
    return results


def _backbone_run(config: AblationConfig, seed: int) -> TrainConfig:
    changes = {
        "name": "backbone",
        "model": config.run.model.model_copy(update={"cidc": None}),
        "seed": seed,
        "out": config.out / f"backbone-seed{seed}",
        "optimiser": config.backbone,
    }
    return config.run.model_copy(update=changes)


def _result_of(
    run: TrainConfig, store: ClipStore, quiet: bool, stop: threading.Event | None
) -> RunResult:
    """Return the result of a run; train it first, or the rest of it, if it is not finished."""
    _check_settings(run)
    path = run.out / "result.json"
    if path.is_file():
        return RunResult(**json.loads(path.read_text(encoding="utf-8")))
    resume = (run.out / "last.safetensors").is_file()
    predictions = train(run, resume=resume, quiet=quiet, stop=stop, store=store)
    accuracies = predictions.pairwise_accuracy().values()
    known = [accuracy for accuracy in accuracies if not math.isnan(accuracy)]
    result = RunResult(predictions.top1(), statistics.fmean(known) if known else None)
    write_json(path, dataclasses.asdict(result))
    return result


def _check_settings(run: TrainConfig) -> None:
    """Check that the folder holds no run with other settings; old names of settings are known."""
    path: Path = run.out / "config.json"
    if not path.is_file():
        return
    settings = json.loads(run.model_dump_json())
    before = with_current_names(json.loads(path.read_text(encoding="utf-8")), TrainConfig)
    if before != settings:
        different = sorted(key for key in settings if before.get(key) != settings[key])
        raise DataError(
            f"{run.out} holds a run with other settings ({', '.join(different)}); remove it or"
            " choose another out"
        )
