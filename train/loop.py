"""The training loop: epochs of steps, validation, checkpoints; resumable after any epoch."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from configs import CheckpointError, TrainingError
from model.cidc import use_mixing
from model.mixing import mixing_choice
from model.network import ActionNetwork, build_model, to_channels_last
from model.preprocess import PreprocessConfig, normalise_clips
from model.runtime import keep_freed_memory, pick_device, pick_dtype
from model.weights import ModelSpec, load_model, save_model
from train.checkpoint import load_state, save_state
from train.clips import ClipStore
from train.evaluate import Scores, evaluate_network
from train.loader import EvaluationViews, TrainingPlan, batches, readable_entries
from train.manifests import ManifestEntry, read_manifest
from train.recipe import OptimiserConfig, TrainConfig

__all__ = ["learning_rate_at", "train"]

_log = logging.getLogger(__name__)


def train(config: TrainConfig, *, resume: bool = False, quiet: bool = False) -> Scores:
    """Train as configured; writes `last.safetensors`, `model.safetensors` and `metrics.jsonl` into `config.out`.

    Raises:
        DataError: a manifest is malformed, or too many videos are unreadable.
        CheckpointError: nothing to resume from, or the state is of another network.
    """
    keep_freed_memory()
    torch.manual_seed(config.seed)
    run = _Run.start(config)
    first_epoch = run.resume() if resume else 0
    if not resume:
        (config.out / "metrics.jsonl").unlink(missing_ok=True)
    scores = None
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"), disable=quiet,
    ) as progress:  # fmt: skip
        for epoch in range(first_epoch, config.optimiser.epochs):
            facts = run.train_epoch(epoch, progress)
            scores = run.validate()
            run.finish_epoch(epoch, facts, scores)
    return scores or run.validate()


def learning_rate_at(progress: float, optimiser: OptimiserConfig) -> float:
    """The rate after `progress` epochs: linear warm-up, then a tenth at each milestone."""
    rate = optimiser.learning_rate * 0.1 ** sum(progress >= share * optimiser.epochs for share in optimiser.milestones)
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

    @classmethod
    def start(cls, config: TrainConfig) -> _Run:
        device = pick_device(config.device)
        dtype = pick_dtype(config.precision, device)
        mixing_choice(config.mixing, device)  # what was asked for by name and is not there is an error now, not at the first step
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        store = ClipStore(
            fps=config.data.fps, frames=config.model.frames, short_side=config.data.short_side_max,
            cache=config.data.cache, in_memory=config.data.cache_in_memory,
        )  # fmt: skip
        manifests = [read_manifest(path) for path in (config.data.train, *config.data.also)]
        entries = [entry for manifest in manifests for entry in readable_entries(manifest, config.data, store)]
        validation = readable_entries(read_manifest(config.data.validation), config.data, store)
        network = build_model(config.model).to(device)
        use_mixing(network, config.mixing)
        if config.backbone_from is not None:
            _start_backbone(network, config.backbone_from, config.preprocess)
        if config.weights_from is not None:
            _start_whole(network, config.weights_from)
        to_channels_last(network)
        optimiser = _build_optimiser(network, config.optimiser)
        forward: Callable[[Tensor], Tensor] = torch.compile(network) if config.compile else network
        plan = TrainingPlan(entries, config.data, config.seed)
        _log.info("%d training and %d validation videos on %s in %s", len(entries), len(validation), device, dtype)
        return cls(config, network, forward, optimiser, plan, validation, store, device, dtype)

    def resume(self) -> int:
        facts = load_state(self.config.out / "last.safetensors", self.network, self.optimiser)
        return int(facts["epoch"]) + 1

    def train_epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        """One pass; returns loss, accuracy, clips per second and the share of time spent waiting for data."""
        # Dropout draws from here, so an epoch is the same whether or not the run was resumed before it.
        torch.manual_seed(self.config.seed * 100_003 + epoch)
        self.network.train()
        planned = self.plan.epoch(epoch)
        steps = max(1, len(planned) // self.config.optimiser.batch)
        task = progress.add_task(f"epoch {epoch + 1}/{self.config.optimiser.epochs}", total=steps, facts="")
        meter, begun, waited = _Meter(), time.perf_counter(), 0.0
        feed = batches(
            planned, self.config.optimiser.batch, store=self.store, preprocess=self.config.preprocess,
            frames=self.config.model.frames, drop_last=True,
        )  # fmt: skip
        for step in range(steps):
            asked = time.perf_counter()
            batch = next(feed)
            waited += time.perf_counter() - asked
            meter.add(*self._step(batch.clips_BTHWC, batch.labels_B, epoch + step / steps))
            spent = time.perf_counter() - begun
            progress.update(task, advance=1, facts=meter.line(spent, waited))
        feed.close()  # type: ignore[attr-defined]
        return meter.facts(time.perf_counter() - begun, waited)

    def _step(self, clips_BTHWC: Tensor, labels_B: Tensor, progress: float) -> tuple[float, int, int]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(progress, self.config.optimiser)
        clips, labels = normalise_clips(clips_BTHWC.to(self.device), self.config.preprocess, dtype=self.dtype), labels_B.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is torch.bfloat16):
            logits_BK = self.forward(clips)
        loss = nn.functional.cross_entropy(logits_BK, labels)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.optimiser.clip_gradient:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip_gradient)
        self.optimiser.step()
        return float(loss.detach()), int((logits_BK.argmax(1) == labels).sum()), len(labels)

    def validate(self) -> Scores:
        return evaluate_network(
            self.network, self.validation, EvaluationViews(), labels=self.config.data.labels,
            background=self.config.data.background, store=self.store, preprocess=self.config.preprocess, dtype=self.dtype,
        )  # fmt: skip

    def finish_epoch(self, epoch: int, facts: dict[str, float], scores: Scores) -> None:
        out = self.config.out
        line: dict[str, Any] = {"epoch": epoch + 1, **facts, "validation": scores.summary()}
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        _log.info("epoch %d: %s", epoch + 1, json.dumps(line))
        weights_format = getattr(torch, self.config.weights_format)
        save_model(self.network, out / "model.safetensors", spec=self._spec(), dtype=weights_format)
        save_state(out / "last.safetensors", self.network, self.optimiser, {"epoch": epoch, "metrics": line})

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


def _start_backbone(network: ActionNetwork, path: Path, preprocess: PreprocessConfig) -> None:
    """Take the backbone of a trained network, as the paper does before it trains the CIDC network."""
    source = load_model(path)
    theirs, ours = source.config.backbone_facts, network.config.backbone_facts
    if theirs != ours:
        different = ", ".join(
            f"model.{name} is {theirs[name]!r} there and {ours[name]!r} here" for name in ours if theirs[name] != ours[name]
        )
        raise CheckpointError(f"backbone_from: {path} has another backbone: {different}")
    assert source.spec is not None
    for name in ("mean_rgb", "std_rgb"):
        there, here = getattr(source.spec.preprocess, name), getattr(preprocess, name)
        if there != here:
            raise CheckpointError(
                f"backbone_from: {path} was trained with preprocess.{name} {list(there)}, here it is {list(here)}; set it to that"
            )
    network.backbone.load_state_dict(source.backbone.state_dict())


def _start_whole(network: ActionNetwork, path: Path) -> None:
    source = load_model(path)
    if source.config.model_copy(update={"dropout": network.config.dropout}) != network.config:
        raise CheckpointError(f"weights_from: {path} is of another network ({source.config!r})")
    network.load_state_dict(source.state_dict())


@dataclasses.dataclass
class _Meter:
    """Running mean of loss and accuracy over an epoch."""

    loss: float = 0.0
    correct: int = 0
    clips: int = 0

    def add(self, loss: float, correct: int, clips: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss}; lower optimiser.learning_rate or set optimiser.clip_gradient")
        self.loss, self.correct, self.clips = self.loss + loss * clips, self.correct + correct, self.clips + clips

    def facts(self, spent: float, waited: float) -> dict[str, float]:
        return {
            "loss": round(self.loss / self.clips, 4), "top1": round(self.correct / self.clips, 4),
            "clips_per_second": round(self.clips / spent, 2), "wait_share": round(waited / spent, 3),
        }  # fmt: skip

    def line(self, spent: float, waited: float) -> str:
        facts = self.facts(spent, waited)
        speed = f"{facts['clips_per_second']:.0f} clips/s  waiting {facts['wait_share']:.0%}"
        return f"loss {facts['loss']:.3f}  top-1 {facts['top1']:.2f}  {speed}"
