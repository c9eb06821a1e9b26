"""Trains the CIDC network and the classifier on the cached maps of a frozen backbone.

Letters: B clips, C channels, T time, H and W space, K classes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from configs import ConfigError, TrainingError, naming_errors
from model.calibration import probabilities_of
from model.checkpoints.weights import save_model
from model.cidc import use_mixing
from model.network import ActionNetwork, build_model, to_channels_last
from model.runtime import pick_device, pick_dtype
from train.config import TrainConfig
from train.data.clip_plan import EvaluationViews, PlannedClip, TrainingClipPlan
from train.data.loader import open_reader, open_store
from train.data.manifest import ManifestEntry, read_manifest
from train.data.readable import check_labels
from train.data.readers import ClipReader
from train.engine.checkpoint import spec_of
from train.engine.pretrained import load_backbone
from train.engine.run import StoppedError
from train.engine.run_log import environment, epoch_line, write_json
from train.engine.step import build_optimiser, learning_rate_at
from train.engine.validation import temperature_or_1
from train.evaluation.clip_accuracy import Predictions
from train.features.cache import FeatureCache, backbone_hash, map_count
from train.features.extract import Extractor

__all__ = ["FeatureRun"]

_log = logging.getLogger(__name__)


class FeatureRun:
    """A run on cached maps: first the maps are computed, then the rest of the network is trained.

    Args:
        config: the configuration; `features` and `backbone_from` are set.
        stop: event; when it is set, the run stops after the current step.

    Raises:
        CidcError: a setting, a manifest, a weights file or the cache cannot be used.
    """

    def __init__(self, config: TrainConfig, stop: threading.Event) -> None:
        if config.features is None or config.backbone_from is None or config.weights_from:
            raise ConfigError(
                "features needs backbone_from, the weights file of the frozen backbone, and"
                " weights_from must be null"
            )
        self._config = config
        self._stop = stop
        self._device = pick_device(config.device)
        self._dtype = pick_dtype(config.precision, self._device)
        self._network = _frozen_network(config).to(self._device)
        to_channels_last(self._network)
        self._store = open_store(config.data, config.model.frames)
        # Videos are not decoded to check them: the maps that are cached need no video.
        self._training = self._entries(config.data.train, *config.data.also)
        self._validation = self._entries(config.data.validation)
        self._extractor = Extractor(self._network, config, device=self._device, dtype=self._dtype)
        self._views: list[list[PlannedClip]] = []
        self._trained = [each for each in self._network.parameters() if each.requires_grad]
        self._optimiser = build_optimiser(self._network, config.optimiser)

    def train(self, progress: Progress) -> Predictions:
        """Compute the maps, train all epochs and save the weights.

        Raises:
            StoppedError: `stop` was set. The maps that were computed stay in the cache.
            TrainingError: the loss is not finite.
        """
        config = self._config
        write_json(config.out / "environment.json", environment())
        write_json(config.out / "config.json", config.model_dump(mode="json"))
        cache, validation = self._cached(progress)
        metrics = config.out / "metrics.jsonl"
        with naming_errors(metrics):
            metrics.write_text("", encoding="utf-8")
        best = -1.0
        task = progress.add_task("epochs", total=config.optimiser.epochs, facts="")
        predictions = self._predict(cache, validation)
        for epoch in range(config.optimiser.epochs):
            facts = self._train_epoch(cache, epoch)
            predictions = self._predict(cache, validation)
            summary = predictions.summary()
            line: dict[str, Any] = {"epoch": epoch + 1, **facts, "validation": summary}
            with naming_errors(metrics), metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            _log.info(epoch_line(epoch + 1, config.optimiser.epochs, facts, summary))
            if predictions.top1() > best:
                best = predictions.top1()
                self._save("best", predictions)
            progress.advance(task)
        self._save("model", predictions)
        return predictions

    def first_step(self) -> dict[str, Any]:
        """Train one step without the cache; return its loss and time, and the cache's size."""
        size = min(self._config.optimiser.batch, len(self._training))
        clips = TrainingClipPlan(self._training, self._config.data, self._config.seed).epoch(0)
        with contextlib.closing(self._reader()) as reader:
            found = [
                pair
                for batch in self._extractor.compute(clips[:size], reader=reader)
                for pair in batch
            ]
        started = time.perf_counter()
        maps = [torch.stack(each) for each in zip(*(maps for _, maps in found), strict=True)]
        labels_B = torch.tensor([clip.label for clip, _ in found])
        loss, _ = self._step(maps, labels_B, self._config.optimiser.learning_rate)
        clip_bytes = sum(2 * map_CTHW.numel() for map_CTHW in found[0][1])
        assert self._config.features is not None
        kept = len(self._training) * self._config.features.views + len(self._validation)
        return {
            "training_videos": len(self._training),
            "validation_videos": len(self._validation),
            "trained_parameters": sum(weights.numel() for weights in self._trained),
            "first_loss": round(loss, 4),
            "step_seconds": round(time.perf_counter() - started, 3),
            "cache_megabytes": round(clip_bytes * kept / 1e6, 1),
            "device": str(self._device),
        }

    def _entries(self, *paths: Path) -> list[ManifestEntry]:
        manifests = [read_manifest(path) for path in paths]
        for manifest in manifests:
            check_labels(manifest, self._config.data)
        return [entry for manifest in manifests for entry in manifest.entries]

    def _reader(self) -> ClipReader:
        return open_reader(self._config.data, self._store, self._device)

    def _cached(self, progress: Progress) -> tuple[FeatureCache, list[PlannedClip]]:
        """Fill the cache; return it and the validation clips."""
        config = self._config
        assert config.features is not None
        cache = FeatureCache(config.features.cache, self._facts())
        plan = TrainingClipPlan(self._training, config.data, config.seed)
        views = [plan.epoch(view) for view in range(config.features.views)]
        planned = [clip for clips in views for clip in clips]
        checks = EvaluationViews().clip_plan(self._validation, config.data.labels)
        with contextlib.closing(self._reader()) as reader:
            found = self._extractor.fill(
                cache, [*planned, *checks], reader=reader, stop=self._stop, progress=progress
            )
        there = {id(clip) for clip in found}
        by_entry: dict[ManifestEntry, list[PlannedClip]] = {}
        for clip in planned:
            if id(clip) in there:
                by_entry.setdefault(clip.entry, []).append(clip)
        self._views = list(by_entry.values())
        return cache, [clip for clip in checks if id(clip) in there]

    def _facts(self) -> dict[str, Any]:
        """Return what determines the maps of a clip, besides the clip."""
        config = self._config
        return {
            "backbone": backbone_hash(self._network),
            "maps": map_count(self._network),
            "preprocess": config.preprocess.model_dump(mode="json"),
            "frames": config.model.frames,
            "fps": config.data.fps,
            "precision": str(self._dtype).removeprefix("torch."),
        }

    def _train_epoch(self, cache: FeatureCache, epoch: int) -> dict[str, float]:
        optimiser = self._config.optimiser
        rng = np.random.default_rng([self._config.seed, epoch])
        torch.manual_seed(int(rng.integers(1 << 31)))
        order = rng.permutation(len(self._views))
        clips = [self._views[index][int(rng.integers(len(self._views[index])))] for index in order]
        steps = max(1, len(clips) // optimiser.batch)
        started = time.perf_counter()
        losses, correct, seen, waited = [], 0, 0, 0.0
        for step in range(steps):
            part = clips[step * optimiser.batch : (step + 1) * optimiser.batch]
            asked_at = time.perf_counter()
            maps, labels_B = self._batch(cache, part)
            waited += time.perf_counter() - asked_at
            rate = learning_rate_at(epoch + step / steps, optimiser)
            loss, hits = self._step(maps, labels_B, rate)
            losses.append(loss)
            correct += hits
            seen += len(part)
            if self._stop.is_set():
                raise StoppedError
        seconds = time.perf_counter() - started
        return {
            "loss": round(float(np.mean(losses)), 4),
            "top1": round(correct / seen, 4),
            "clips_per_second": round(seen / seconds, 2),
            "wait_share": round(waited / seconds, 4),
        }

    def _step(self, maps: list[Tensor], labels_B: Tensor, rate: float) -> tuple[float, int]:
        """Update the network; return the loss and the number of clips classified correctly."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._network.train()
        self._network.backbone.eval()
        self._optimiser.zero_grad()
        labels_B = labels_B.to(self._device)
        logits_BK = self._logits(maps)
        loss = nn.functional.cross_entropy(logits_BK, labels_B)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.optimiser.clip_gradient:
            nn.utils.clip_grad_norm_(self._trained, self._config.optimiser.clip_gradient)
        self._optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                "the loss is not finite; lower optimiser.learning_rate or set"
                " optimiser.clip_gradient"
            )
        return value, int((logits_BK.argmax(1) == labels_B).sum())

    def _logits(self, maps: list[Tensor]) -> Tensor:
        enabled = self._dtype is torch.bfloat16
        maps = [map_BCTHW.to(self._device, self._dtype) for map_BCTHW in maps]
        with torch.autocast(self._device.type, self._dtype, enabled=enabled):
            return self._network.logits_of(maps)

    @torch.no_grad()
    def _predict(self, cache: FeatureCache, clips: Sequence[PlannedClip]) -> Predictions:
        self._network.eval()
        data = self._config.data
        parts = [self._logits(maps).float().cpu() for maps, _ in self._batches(cache, clips)]
        logits_NK = torch.cat(parts) if parts else torch.zeros(0, len(data.labels))
        truth_N = torch.tensor([clip.label for clip in clips], dtype=torch.long)
        probabilities_NK = probabilities_of(logits_NK, 1.0)
        return Predictions(
            probabilities_NK, truth_N, data.labels, data.background, logits_NK.unsqueeze(1)
        )

    def _batches(
        self, cache: FeatureCache, clips: Sequence[PlannedClip]
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        size = self._config.optimiser.batch
        for first in range(0, len(clips), size):
            yield self._batch(cache, clips[first : first + size])

    def _batch(
        self, cache: FeatureCache, clips: Sequence[PlannedClip]
    ) -> tuple[list[Tensor], Tensor]:
        found = [cache.read(clip) for clip in clips]
        maps = [torch.stack(each) for each in zip(*found, strict=True)]
        return maps, torch.tensor([clip.label for clip in clips])

    def _save(self, name: str, predictions: Predictions) -> None:
        config = self._config
        spec = spec_of(config, temperature_or_1(predictions))
        dtype = getattr(torch, config.weights_format)
        save_model(self._network, config.out / f"{name}.safetensors", spec=spec, dtype=dtype)


def _frozen_network(config: TrainConfig) -> ActionNetwork:
    torch.manual_seed(config.seed)
    network = build_model(config.model)
    use_mixing(network, config.mixing)
    assert config.backbone_from is not None
    load_backbone(network, config.backbone_from, config.preprocess)
    network.backbone.requires_grad_(False)
    return network.eval()
