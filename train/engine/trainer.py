"""Trains a network: runs the epochs, validates and saves; a run can resume after any step."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import ConfigError, shows_progress
from model.runtime import keep_freed_memory
from train.config import TrainConfig
from train.data.clip_store import ClipStore
from train.distributed import Ranks
from train.engine.run import StoppedError
from train.engine.run_log import logging_to
from train.engine.run_setup import prepare_folder, set_up_run
from train.evaluation.clip_accuracy import Predictions
from train.features.run import FeatureRun

__all__ = ["StoppedError", "dry_run", "train"]


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    stop: threading.Event | None = None,
    store: ClipStore | None = None,
    ranks: Ranks | None = None,
) -> Predictions:
    """Train as configured; return the predictions for the validation videos.

    Writes into `config.out`: `last.safetensors` (the whole state), `model.safetensors` and
    `best.safetensors` (weights), `metrics.jsonl` (one line per epoch), `steps.jsonl` (one line per
    step), `quarantine.csv` (videos that became unreadable), `config.json`, `environment.json`,
    `log.txt`.

    Args:
        resume: continue from the saved state; the losses are the same as without the stop.
        stop: event; when it is set, the run saves its state after the current step and stops.
        store: source of decoded frames; by default it is opened from `config.data`. Runs on the
            same videos can share one store.
        ranks: the processes that train together; every process calls this function. By default
            only this process trains.

    Raises:
        DataError: a manifest is malformed, or too many videos are unreadable.
        CheckpointError: the saved state is missing, or belongs to another network.
        StoppedError: `stop` was set.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    ranks = ranks or Ranks()
    if config.features is not None:
        return _train_on_features(config, resume=resume, quiet=quiet, stop=stop, ranks=ranks)
    if ranks.is_first:
        prepare_folder(config.out, resume=resume)
    ranks.wait()
    log = logging_to(config.out / "log.txt") if ranks.is_first else contextlib.nullcontext()
    with (
        log,
        contextlib.closing(set_up_run(config, stop or threading.Event(), store, ranks)) as run,
        _progress_bar(disable=quiet or not (ranks.is_first and shows_progress())) as progress,
    ):
        if resume:
            run.resume()
        run.open_logs()
        predictions = None
        while run.state.epoch < config.optimiser.epochs:
            facts = run.train_epoch(progress)
            predictions = run.validate()
            run.finish_epoch(facts, predictions)
        return predictions or run.validate()


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """Read the videos, build the network and train one step; write nothing except the cache.

    Returns:
        Numbers of videos and parameters, steps per epoch, loss and seconds of the first step.

    Raises:
        CidcError: for the same reasons as in `train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={"out": Path(folder)})
        if config.features is not None:
            return FeatureRun(config, threading.Event()).first_step()
        with contextlib.closing(set_up_run(config, threading.Event(), None, Ranks())) as run:
            return run.first_step()


def _train_on_features(
    config: TrainConfig,
    *,
    resume: bool,
    quiet: bool,
    stop: threading.Event | None,
    ranks: Ranks,
) -> Predictions:
    if resume or ranks.size > 1:
        raise ConfigError(
            "a run on features is short: it runs in one process and starts again, with the features"
            " that were computed; leave out --resume and torchrun, or set features to null"
        )
    prepare_folder(config.out, resume=False)
    with (
        logging_to(config.out / "log.txt"),
        _progress_bar(disable=quiet or not shows_progress()) as progress,
    ):
        return FeatureRun(config, stop or threading.Event()).train(progress)


def _progress_bar(*, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
        disable=disable,
    )
