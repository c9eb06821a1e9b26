"""The training loop: epochs of steps, validation, checkpoints; resumable after any step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from configs import TrainingError
from model.cidc import use_mixing
from model.mixing import mixing_choice
from model.network import ActionNetwork, build_model, to_channels_last
from model.preprocess import normalise_clips
from model.runtime import keep_freed_memory, pick_device, pick_dtype
from model.weights import ModelSpec, save_model
from train.checkpoint import load_state, save_state
from train.clips import ClipStore
from train.evaluate import Scores, evaluate_network
from train.initial import start_backbone, start_whole
from train.loader import Batch, EvaluationViews, PlannedClip, Quarantine, TrainingPlan, batches, readable_entries
from train.manifests import ManifestEntry, read_manifest
from train.recipe import OptimiserConfig, TrainConfig
from train.records import Meter, environment, keep_lines, logging_to

__all__ = ["StoppedError", "dry_run", "learning_rate_at", "train"]

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
) -> Scores:
    """Train as configured.

    Writes into `config.out`: `last.safetensors` (the whole state), `model.safetensors` and `best.safetensors` (weights), `metrics.jsonl`
    (a line an epoch), `steps.jsonl` (a line a step), `quarantine.csv` (videos that went bad on the way), `config.json`, `environment.json`
    and `log.txt`.

    Args:
        resume: go on where the saved state stands; the losses are then those of a run that was never stopped.
        stop: when set, the state is saved after the step at hand.
        store: where frames come from; by default one as configured. Runs on the same videos can share one.

    Raises:
        DataError: a manifest is malformed, or too many videos are unreadable.
        CheckpointError: nothing to resume from, or the state is of another network.
        StoppedError: `stop` was set.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    if not resume:
        for name in ("quarantine.csv", "log.txt"):
            (config.out / name).unlink(missing_ok=True)
    with logging_to(config.out / "log.txt"):
        run = _Run.start(config, stop or threading.Event(), store)
        if resume:
            run.resume()
        run.open_logs()
        scores = None
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"), disable=quiet,
        ) as progress:  # fmt: skip
            while run.epoch < config.optimiser.epochs:
                facts = run.train_epoch(progress)
                scores = run.validate()
                run.finish_epoch(facts, scores)
        return scores or run.validate()


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """All that can go wrong before the first epoch: read the videos, build the network, run one step; nothing is written but the cache.

    Returns:
        Videos, parameters, steps an epoch, the loss of the first step and its seconds.

    Raises:
        CidcError: as `train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _Run.start(config.model_copy(update={"out": Path(folder)}), threading.Event())
        return run.first_step()


def learning_rate_at(progress: float, optimiser: OptimiserConfig) -> float:
    """The rate after `progress` epochs: linear warm-up, then a tenth at each milestone."""
    scale = 1.0 if optimiser.base_batch is None else optimiser.batch / optimiser.base_batch
    rate = scale * optimiser.learning_rate * 0.1 ** sum(progress >= share * optimiser.epochs for share in optimiser.milestones)
    if progress < optimiser.warmup_epochs:
        rate *= progress / optimiser.warmup_epochs
    return rate


@dataclasses.dataclass
class _Run:
    config: TrainConfig
    network: ActionNetwork
    forward: Callable[[Tensor], Tensor]
    optimiser: torch.optim.Optimizer
    plan: TrainingPlan
    validation: list[ManifestEntry]
    store: ClipStore
    device: torch.device
    dtype: torch.dtype
    stop: threading.Event
    quarantine: Quarantine
    epoch: int = 0  # how many are done
    step: int = 0  # how many of the next one are done
    best: float = -1.0
    meter: Meter = dataclasses.field(default_factory=Meter)
    saved_at: float = dataclasses.field(default_factory=time.monotonic)

    @classmethod
    def start(cls, config: TrainConfig, stop: threading.Event, store: ClipStore | None = None) -> _Run:
        device = pick_device(config.device)
        dtype = pick_dtype(config.precision, device)
        mixing_choice(config.mixing, device)  # what was asked for by name and is not there is an error now, not at the first step
        (config.out / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
        (config.out / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        store = store or ClipStore(
            fps=config.data.fps, frames=config.model.frames, short_side=config.data.short_side_max,
            cache=config.data.cache, in_memory=config.data.cache_in_memory,
        )  # fmt: skip
        manifests = [read_manifest(path) for path in (config.data.train, *config.data.also)]
        entries = [entry for manifest in manifests for entry in readable_entries(manifest, config.data, store)]
        validation = readable_entries(read_manifest(config.data.validation), config.data, store)
        network = build_model(config.model).to(device)
        use_mixing(network, config.mixing)
        network.backbone.checkpointing = config.activation_checkpointing
        if config.backbone_from is not None:
            start_backbone(network, config.backbone_from, config.preprocess)
        if config.weights_from is not None:
            start_whole(network, config.weights_from)
        to_channels_last(network)
        optimiser = _build_optimiser(network, config.optimiser)
        forward: Callable[[Tensor], Tensor] = torch.compile(network) if config.compile else network
        plan = TrainingPlan(entries, config.data, config.seed)
        _log.info("%d training and %d validation videos on %s in %s", len(entries), len(validation), device, dtype)
        quarantine = Quarantine(config.out / "quarantine.csv", int(config.data.max_bad_share * len(entries)))
        return cls(config, network, forward, optimiser, plan, validation, store, device, dtype, stop, quarantine)

    def resume(self) -> None:
        """Take up the saved state: weights, optimiser, place in the plan, running figures."""
        facts = load_state(self.config.out / "last.safetensors", self.network, self.optimiser)
        self.epoch, self.step, self.best = int(facts["epoch"]), int(facts["step"]), float(facts["best"])
        self.meter = Meter(**facts["meter"])
        _log.info("going on at epoch %d, step %d", self.epoch + 1, self.step + 1)

    def open_logs(self) -> None:
        """Start the logs anew, or drop the lines that a resumed run will write again."""
        done = (self.epoch, self.step)
        keep_lines(self.config.out / "metrics.jsonl", lambda line: line["epoch"] <= self.epoch)
        keep_lines(self.config.out / "steps.jsonl", lambda line: (line["epoch"] - 1, line["step"]) <= done)

    def train_epoch(self, progress: Progress) -> dict[str, float]:
        """What is left of one pass; returns loss, accuracy, clips per second and the share of time spent waiting for data."""
        self.network.train()
        size = self.config.optimiser.batch
        planned = self.plan.epoch(self.epoch)
        steps = max(1, len(planned) // size)
        name = f"epoch {self.epoch + 1}/{self.config.optimiser.epochs}"
        task = progress.add_task(name, total=steps, completed=self.step, facts="")
        feed = self._feed(planned[self.step * size : steps * size])
        with contextlib.closing(feed), (self.config.out / "steps.jsonl").open("a", encoding="utf-8") as log:  # type: ignore[type-var]
            while self.step < steps:
                asked = time.perf_counter()
                batch = next(feed)
                waited = time.perf_counter() - asked
                rate = learning_rate_at(self.epoch + self.step / steps, self.config.optimiser)
                loss, correct = self._step(batch.clips_BTHWC, batch.labels_B, rate)
                self.step += 1
                log.write(json.dumps({"epoch": self.epoch + 1, "step": self.step, "loss": loss, "learning_rate": rate}) + "\n")
                self.meter.add(loss, correct, len(batch.labels_B), waited, time.perf_counter() - asked)
                progress.update(task, advance=1, facts=self.meter.line())
                stopping = self.stop.is_set()
                if stopping or time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes:
                    log.flush()
                    self.save()
                if stopping:
                    raise StoppedError(f"stopped in epoch {self.epoch + 1} after step {self.step} of {steps}; `--resume` goes on there")
        return self.meter.facts()

    def _feed(self, planned: Sequence[PlannedClip]) -> Iterator[Batch]:
        return batches(
            planned, self.config.optimiser.batch, store=self.store, preprocess=self.config.preprocess,
            frames=self.config.model.frames, drop_last=False, quarantine=self.quarantine,
        )  # fmt: skip

    def _step(self, clips_BTHWC: Tensor, labels_B: Tensor, rate: float) -> tuple[float, int]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # Dropout draws from here: a step is the same whether or not the run was resumed before it.
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, self.epoch, self.step]).generate_state(1)[0]))
        self.optimiser.zero_grad()
        total, correct, parts = 0.0, 0, self.config.optimiser.accumulate
        for clips_part, labels in zip(clips_BTHWC.chunk(parts), labels_B.to(self.device).chunk(parts), strict=True):
            clips = normalise_clips(clips_part.to(self.device), self.config.preprocess, dtype=self.dtype)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is torch.bfloat16):
                logits_BK = self.forward(clips)
            loss = nn.functional.cross_entropy(logits_BK, labels) * (len(labels) / len(labels_B))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            correct += int((logits_BK.argmax(1) == labels).sum())
        if not math.isfinite(total):
            raise TrainingError(f"the loss became {total}; lower optimiser.learning_rate or set optimiser.clip_gradient")
        if self.config.optimiser.clip_gradient:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip_gradient)
        self.optimiser.step()
        return total, correct

    def first_step(self) -> dict[str, Any]:
        """One step, and what a run would be."""
        size = self.config.optimiser.batch
        planned = self.plan.epoch(0)
        batch = next(self._feed(planned[:size]))
        begun = time.perf_counter()
        self.network.train()
        loss, _ = self._step(batch.clips_BTHWC, batch.labels_B, learning_rate_at(0.0, self.config.optimiser))
        return {
            "training_videos": len(planned), "validation_videos": len(self.validation), "steps_per_epoch": max(1, len(planned) // size),
            "parameters": sum(p.numel() for p in self.network.parameters()), "clips": tuple(batch.clips_BTHWC.shape),
            "first_loss": round(loss, 4), "step_seconds": round(time.perf_counter() - begun, 3), "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }  # fmt: skip

    def save(self) -> None:
        """The whole state, whole or not at all."""
        facts = {"epoch": self.epoch, "step": self.step, "best": self.best, "meter": dataclasses.asdict(self.meter)}
        save_state(self.config.out / "last.safetensors", self.network, self.optimiser, facts)
        self.saved_at = time.monotonic()

    def validate(self) -> Scores:
        return evaluate_network(
            self.network, self.validation, EvaluationViews(), labels=self.config.data.labels,
            background=self.config.data.background, store=self.store, preprocess=self.config.preprocess, dtype=self.dtype,
        )  # fmt: skip

    def finish_epoch(self, facts: dict[str, float], scores: Scores) -> None:
        """Write figures, weights and state."""
        out, top1 = self.config.out, scores.top1()
        self.epoch, self.step, self.meter = self.epoch + 1, 0, Meter()
        line: dict[str, Any] = {"epoch": self.epoch, **facts, "validation": scores.summary()}
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        _log.info("epoch %d: %s", self.epoch, json.dumps(line))
        names = ["model"]
        if top1 > self.best:
            self.best = top1
            names.append("best")
        if self.config.keep_every and self.epoch % self.config.keep_every == 0:
            names.append(f"epoch-{self.epoch:04d}")
        for name in names:
            path = out / f"{name}.safetensors"
            save_model(self.network, path, spec=self._spec(), dtype=getattr(torch, self.config.weights_format))
        self.save()

    def _spec(self) -> ModelSpec:
        data = self.config.data
        return ModelSpec(
            name=self.config.name, model=self.config.model, labels=data.labels, background=data.background,
            fps=data.fps, preprocess=self.config.preprocess,
        )  # fmt: skip


def _build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    if config.kind == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
