"""The training loop: epochs of steps, validation, checkpoints; resumable after any step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.checkpoints.weights import ModelSpec, save_model
from model.cidc import use_mixing
from model.mixing import mixing_choice
from model.network import ActionNetwork, build_model, to_channels_last
from model.runtime import keep_freed_memory, pick_device, pick_dtype
from train.config import TrainConfig
from train.data.clip_plan import EvaluationViews, PlannedClip, TrainingPlan
from train.data.clip_store import ClipStore
from train.data.loader import Batch, Quarantine, batches, open_reader, open_store, readable_entries
from train.data.manifest import ManifestEntry, read_manifest
from train.data.readers import ClipReader
from train.distributed import Group
from train.engine.checkpoint import load_state, save_state
from train.engine.pretrained import start_backbone, start_whole
from train.engine.run_log import Board, Meter, environment, keep_lines, logging_to
from train.engine.step import Stepper, check_batch, learning_rate_at
from train.evaluation.clip_accuracy import Scores, evaluate_network

__all__ = ["StoppedError", "dry_run", "train"]

_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The run was asked to stop; its state is saved."""


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    stop: threading.Event | None = None,
    store: ClipStore | None = None,
    group: Group | None = None,
) -> Scores:
    """Train as configured.

    Writes into `config.out`: `last.safetensors` (the whole state), `model.safetensors` and
    `best.safetensors` (weights), `metrics.jsonl` (a line an epoch), `steps.jsonl` (a line a step),
    `quarantine.csv` (videos that went bad on the way), `config.json`, `environment.json` and
    `log.txt`.

    Args:
        resume: go on where the saved state stands; the losses are then those of a run that was
            never stopped.
        stop: when set, the state is saved after the step at hand.
        store: where frames come from; by default one as configured. Runs on the same videos can
            share one.
        group: the processes that train together, each called with its own; the first one writes. By
            default this process alone.

    Raises:
        DataError: a manifest is malformed, or too many videos are unreadable.
        CheckpointError: nothing to resume from, or the state is of another network.
        StoppedError: `stop` was set.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    group = group or Group()
    if group.first:
        config.out.mkdir(parents=True, exist_ok=True)
        for path in [] if resume else [config.out / "log.txt", *config.out.glob("quarantine*.csv")]:
            path.unlink(missing_ok=True)
        if not resume:
            shutil.rmtree(config.out / "tensorboard", ignore_errors=True)
    group.wait()
    with logging_to(config.out / "log.txt") if group.first else contextlib.nullcontext():
        run = _Run.start(config, stop or threading.Event(), store, group)
        if resume:
            run.resume()
        run.open_logs()
        scores = None
        with (
            contextlib.closing(run),
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                disable=quiet or not group.first,
            ) as progress,
        ):
            while run.epoch < config.optimiser.epochs:
                facts = run.train_epoch(progress)
                scores = run.validate()
                run.finish_epoch(facts, scores)
            return scores or run.validate()


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """All that can go wrong before the first epoch: read the videos, build the network, run one
    step; nothing is written but the cache.

    Returns:
        Videos, parameters, steps an epoch, the loss of the first step and its seconds.

    Raises:
        CidcError: as `train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _Run.start(config.model_copy(update={"out": Path(folder)}), threading.Event())
        with contextlib.closing(run):
            return run.first_step()


@dataclasses.dataclass
class _Run:
    config: TrainConfig
    network: ActionNetwork
    stepper: Stepper
    group: Group
    plan: TrainingPlan
    validation: list[ManifestEntry]
    reader: ClipReader
    device: torch.device
    dtype: torch.dtype
    stop: threading.Event
    quarantine: Quarantine
    epoch: int = 0  # how many are done
    step: int = 0  # how many of the next one are done
    best: float = -1.0
    meter: Meter = dataclasses.field(default_factory=Meter)
    saved_at: float = dataclasses.field(default_factory=time.monotonic)
    board: Board | None = None

    @classmethod
    def start(
        cls,
        config: TrainConfig,
        stop: threading.Event,
        store: ClipStore | None = None,
        group: Group | None = None,
    ) -> _Run:
        group = group or Group()
        check_batch(config.optimiser, group)
        device = pick_device(config.device)
        dtype = pick_dtype(config.precision, device)
        # what was asked for by name and is not there is an error now, not at the first step
        mixing_choice(config.mixing, device)
        if group.first:
            (config.out / "environment.json").write_text(
                json.dumps(environment(), indent=2) + "\n", encoding="utf-8"
            )
            (config.out / "config.json").write_text(
                config.model_dump_json(indent=2) + "\n", encoding="utf-8"
            )
        store = store or open_store(config.data, config.model.frames)
        manifests = [read_manifest(path) for path in (config.data.train, *config.data.also)]
        entries = [
            entry
            for manifest in manifests
            for entry in readable_entries(manifest, config.data, store, group=group)
        ]
        check_batch(config.optimiser, group, videos=len(entries))
        validation = readable_entries(
            read_manifest(config.data.validation), config.data, store, group=group
        )
        network = build_model(config.model).to(device)
        use_mixing(network, config.mixing)
        network.backbone.checkpointing = config.activation_checkpointing
        if config.backbone_from is not None:
            start_backbone(network, config.backbone_from, config.preprocess)
        if config.weights_from is not None:
            start_whole(network, config.weights_from)
        to_channels_last(network)
        stepper = Stepper(network, config, device=device, dtype=dtype, group=group)
        plan = TrainingPlan(entries, config.data, config.seed)
        _log.info(
            "%d training and %d validation videos on %s in %s",
            len(entries),
            len(validation),
            device,
            dtype,
        )
        name = "quarantine.csv" if group.first else f"quarantine-{group.rank}.csv"
        quarantine = Quarantine(config.out / name, int(config.data.max_bad_share * len(entries)))
        reader = open_reader(config.data, store, device, processes=group.local_size)
        return cls(
            config,
            network,
            stepper,
            group,
            plan,
            validation,
            reader,
            device,
            dtype,
            stop,
            quarantine,
        )

    def resume(self) -> None:
        """Take up the saved state: weights, optimiser, place in the plan, running figures."""
        facts = load_state(
            self.config.out / "last.safetensors", self.network, self.stepper.optimiser
        )
        self.epoch = int(facts["epoch"])
        self.step = int(facts["step"])
        self.best = float(facts["best"])
        self.meter = Meter(**facts["meter"])
        _log.info("going on at epoch %d, step %d", self.epoch + 1, self.step + 1)

    def open_logs(self) -> None:
        """Start the logs anew, or drop the lines that a resumed run will write again."""
        done = (self.epoch, self.step)
        wanted = self.group.first and self.config.tensorboard
        self.board = Board(
            self.config.out, self.epoch * self._steps() + self.step + 1 if wanted else None
        )
        if not self.group.first:
            return
        keep_lines(self.config.out / "metrics.jsonl", lambda line: line["epoch"] <= self.epoch)
        keep_lines(
            self.config.out / "steps.jsonl", lambda line: (line["epoch"] - 1, line["step"]) <= done
        )

    def train_epoch(self, progress: Progress) -> dict[str, float]:
        """What is left of one pass; returns loss, accuracy, clips per second and the share of
        time spent waiting for data.
        """
        self.network.train()
        size = self.config.optimiser.batch
        planned = self.plan.epoch(self.epoch)
        steps = self._steps()
        name = f"epoch {self.epoch + 1}/{self.config.optimiser.epochs}"
        task = progress.add_task(name, total=steps, completed=self.step, facts="")
        batches_left = [
            planned[step * size : (step + 1) * size] for step in range(self.step, steps)
        ]
        feed = self._feed([clip for batch in batches_left for clip in self._share(batch)])
        with contextlib.closing(feed), self._step_log() as log:  # type: ignore[type-var]
            while self.step < steps:
                asked = time.perf_counter()
                batch = next(feed)
                waited = time.perf_counter() - asked
                rate = learning_rate_at(self.epoch + self.step / steps, self.config.optimiser)
                mean, right = self.stepper(
                    batch.clips_BTHWC, batch.labels_B, rate=rate, place=(self.epoch, self.step)
                )
                mine = len(batch.labels_B)
                loss, correct, clips, asked_to_stop = self.group.total(
                    [mean * mine, right, mine, self.stop.is_set()], self.device
                )
                self.step += 1
                self.meter.add(
                    loss / clips, int(correct), int(clips), waited, time.perf_counter() - asked
                )
                log.write(
                    json.dumps(
                        {
                            "epoch": self.epoch + 1,
                            "step": self.step,
                            "loss": loss / clips,
                            "learning_rate": rate,
                        }
                    )
                    + "\n"
                )
                if self.board is not None:
                    self.board.add(
                        self.epoch * steps + self.step,
                        train__loss=loss / clips,
                        train__learning_rate=rate,
                    )
                progress.update(task, advance=1, facts=self.meter.line())
                if (
                    asked_to_stop
                    or time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes
                ):
                    log.flush()
                    self.save()
                if asked_to_stop:
                    raise StoppedError(
                        f"stopped in epoch {self.epoch + 1} after step {self.step} of {steps};"
                        " `--resume` goes on there"
                    )
        return self.meter.facts()

    def _steps(self) -> int:
        """Steps of an epoch."""
        return max(1, len(self.plan) // self.config.optimiser.batch)

    def _share(self, batch: Sequence[PlannedClip]) -> list[PlannedClip]:
        """This rank's share of every part that the batch is computed in, so that batch norm sees
        the same clips together as alone.
        """
        size = -(-len(batch) // self.config.optimiser.accumulate)
        return [
            clip
            for first in range(0, len(batch), size)
            for clip in self.group.share(batch[first : first + size])
        ]

    def _step_log(self) -> TextIO:
        return (self.config.out / "steps.jsonl" if self.group.first else Path(os.devnull)).open(
            "a", encoding="utf-8"
        )

    def _feed(self, planned: Sequence[PlannedClip]) -> Iterator[Batch]:
        return batches(
            planned,
            self.config.optimiser.batch // self.group.size,
            reader=self.reader,
            preprocess=self.config.preprocess,
            device=self.device,
            quarantine=self.quarantine,
        )

    def first_step(self) -> dict[str, Any]:
        """One step, and what a run would be."""
        size = self.config.optimiser.batch
        planned = self.plan.epoch(0)
        batch = next(self._feed(planned[:size]))
        begun = time.perf_counter()
        self.network.train()
        rate = learning_rate_at(0.0, self.config.optimiser)
        loss, _ = self.stepper(batch.clips_BTHWC, batch.labels_B, rate=rate, place=(0, 0))
        return {
            "training_videos": len(planned),
            "validation_videos": len(self.validation),
            "steps_per_epoch": self._steps(),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "clips": tuple(batch.clips_BTHWC.shape),
            "first_loss": round(loss, 4),
            "step_seconds": round(time.perf_counter() - begun, 3),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def save(self) -> None:
        """The whole state, whole or not at all."""
        self.saved_at = time.monotonic()
        if not self.group.first:
            return
        facts = {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "meter": dataclasses.asdict(self.meter),
        }
        save_state(
            self.config.out / "last.safetensors", self.network, self.stepper.optimiser, facts
        )

    def validate(self) -> Scores:
        """Scores on all validation videos, each rank evaluating its share."""
        mine = evaluate_network(
            self.network,
            self.group.share(self.validation),
            EvaluationViews(),
            labels=self.config.data.labels,
            background=self.config.data.background,
            reader=self.reader,
            preprocess=self.config.preprocess,
            dtype=self.dtype,
        )
        rows = self.group.gather(
            list(zip(mine.probabilities_NK.tolist(), mine.truth_N.tolist(), strict=True))
        )
        probabilities = torch.tensor([row for row, _ in rows])
        truth = torch.tensor([label for _, label in rows])
        return Scores(probabilities, truth, mine.labels, mine.background)

    def finish_epoch(self, facts: dict[str, float], scores: Scores) -> None:
        """Write figures, weights and state."""
        out = self.config.out
        top1 = scores.top1()
        self.epoch = self.epoch + 1
        self.step = 0
        self.meter = Meter()
        if not self.group.first:
            return
        line: dict[str, Any] = {"epoch": self.epoch, **facts, "validation": scores.summary()}
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        _log.info("epoch %d: %s", self.epoch, json.dumps(line))
        if self.board is not None:
            figures = {f"epoch__{name}": value for name, value in facts.items()}
            self.board.add(
                self.epoch * self._steps(),
                **figures,
                validation__top1=top1,
                validation__top5=scores.top5(),
            )
        names = ["model"]
        if top1 > self.best:
            self.best = top1
            names.append("best")
        if self.config.keep_every and self.epoch % self.config.keep_every == 0:
            names.append(f"epoch-{self.epoch:04d}")
        for name in names:
            path = out / f"{name}.safetensors"
            save_model(
                self.network,
                path,
                spec=self._spec(),
                dtype=getattr(torch, self.config.weights_format),
            )
        self.save()

    def close(self) -> None:
        """End what runs beside the loop."""
        self.reader.close()
        if self.board is not None:
            self.board.close()

    def _spec(self) -> ModelSpec:
        data = self.config.data
        return ModelSpec(
            name=self.config.name,
            model=self.config.model,
            labels=data.labels,
            background=data.background,
            fps=data.fps,
            preprocess=self.config.preprocess,
        )
