"""Runs the ablations: trains every variant from its backbone with the same number of clips.

For each seed and each backbone, first the backbone is trained with average pooling. Every variant
then starts from its backbone, so all rows of a table have seen the same clips equally often.
Finished runs are not repeated; a run that was stopped is continued.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import threading
from pathlib import Path

from configs import ConfigError, DataError, parse_config
from model.network import ModelConfig
from train.ablations.config import AblationConfig
from train.ablations.variants import backbone_name, variants
from train.config import TrainConfig
from train.data.clip_store import ClipStore
from train.data.loader import open_store
from train.engine.run_log import write_json
from train.engine.trainer import train

__all__ = ["RunResult", "run_ablations"]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The accuracy of one run.

    `pairs` is the mean pairwise accuracy on time-reversed actions (chance is 0.5), or None if the
    labels contain no such pairs. The file `result.json` uses the same field names.
    """

    top1: float
    pairs: float | None


def run_ablations(
    config: AblationConfig, *, quiet: bool = False, stop: threading.Event | None = None
) -> dict[str, list[RunResult]]:
    """Train all variants that have no result yet.

    Returns:
        For each variant, a list with one result per seed.

    Raises:
        StoppedError: `stop` was set; the current run is saved, and the next call continues it.
        DataError: the folder holds runs with other settings.
        CidcError: for the same reasons as in `train`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "`compare` trains its runs in sequence in a single process: start it without torchrun"
        )
    store = open_store(config.run.data, config.run.model.frames)
    results: dict[str, list[RunResult]] = {}
    for seed in config.seeds:
        for name, model in variants(config).items():
            backbone = _backbone_run(config, model, seed)
            _finished_result(backbone, store, quiet, stop)
            changes = {
                "name": name,
                "model": model,
                "seed": seed,
                "out": config.out / f"{name}-seed{seed}",
                "backbone_from": backbone.out / "model.safetensors",
            }
            run = config.run.model_copy(update=changes)
            results.setdefault(name, []).append(_finished_result(run, store, quiet, stop))
    return results


def _backbone_run(config: AblationConfig, model: ModelConfig, seed: int) -> TrainConfig:
    """Return the run that trains the backbone of a variant."""
    name = backbone_name(model, config)
    changes = {
        "name": name,
        "model": model.model_copy(update={"cidc": None, "head": "pool"}),
        "seed": seed,
        "out": config.out / f"{name}-seed{seed}",
        "optimiser": config.backbone,
    }
    return config.run.model_copy(update=changes)


def _finished_result(
    run: TrainConfig, store: ClipStore, quiet: bool, stop: threading.Event | None
) -> RunResult:
    """Return the result of a run; if it is not finished, start or continue its training first."""
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
    """Check that the run's folder holds no run with other settings.

    Files with old names of settings, or from before a setting existed, are understood.
    """
    path: Path = run.out / "config.json"
    if not path.is_file():
        return
    settings = run.model_dump(mode="json")
    # Settings that did not exist when the run was made have their defaults.
    stored = parse_config(path.read_text(encoding="utf-8"), TrainConfig, name=str(path))
    before = stored.model_dump(mode="json")
    if before != settings:
        different = sorted(key for key in settings if before.get(key) != settings[key])
        raise DataError(
            f"{run.out} holds a run with other settings ({', '.join(different)}); remove it or"
            " choose another out"
        )
