"""Describes what a run's figures depend on, to tell whether a finished run still counts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import CheckpointError, ConfigError, check_tree
from model.checkpoints.shipped import find_weights
from train.config import TrainConfig, labels_in, load_training
from train.data.manifest import read_manifest
from train.evaluation.stream_file import read_detection
from train.results.config import ResultsPlan
from train.results.lists import SetLists, draw_clips, hash_of_videos, write_entries
from train.results.plan import EventRun, TrainingRun

__all__ = ["Fingerprint", "differences", "event_fingerprint", "hash_of_weights", "training_setup"]

Fingerprint = dict[str, Any]

# Where files lie and how often they are saved changes no figure.
_FREE = {"name", "out", "tensorboard", "checkpoint_minutes", "keep_every"}
_FREE_DATA = {"cache", "cache_in_memory", "decoder_threads", "workers"}
_FREE_PATHS = {"train", "validation"}
_hashes: dict[tuple[Path, int, int], str] = {}


def training_setup(
    run: TrainingRun,
    plan: ResultsPlan,
    lists: SetLists,
    out: Path,
    start_hash: str | None = None,
) -> tuple[TrainConfig, Fingerprint]:
    """Return the configuration of a run and the fingerprint of its figures; write drawn lists.

    Args:
        start_hash: of the weights that another run has made and this one starts from; None: the
            file is read.

    Raises:
        CidcError: the configuration is malformed, or a file that it names cannot be used.
    """
    folder = out / "runs" / run.name
    training = lists.train
    if run.clips != "all":
        entries = read_manifest(lists.train).entries
        training = folder / "train.csv"
        drawn = draw_clips(entries, run.clips, seed=run.seed, group=run.set.group)
        write_entries(training, drawn)
    settings: dict[str, object] = {
        "name": f"{run.set.id} {run.network.id}"[:100],
        "out": str(folder / "training"),
        "seed": run.seed,
        "data.train": str(training),
        "data.also": [],
        "data.validation": str(lists.validation),
        "data.labels_from": str(lists.labels_from),
        "data.labels": [],
        "data.flip_labels": {},
        "data.no_flip_labels": [],
        "model.num_classes": len(labels_in(lists.labels_from)),
    }
    if run.start_name is not None:
        settings["backbone_from"] = None
        settings["weights_from"] = str(out / "runs" / run.start_name / "training/model.safetensors")
    own = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = load_training(plan.config, [*run.set.changes, *run.network.changes, *own])
    starts = {"backbone": config.backbone_from, "weights": config.weights_from}
    return config, {
        "config": _plain(config),
        "views": plan.views,
        "videos": hash_of_videos(lists.folder, training, lists.validation),
        "starts": {
            name: None if path is None else hash_of_weights(path)
            for name, path in starts.items()
            if name != "weights" or start_hash is None
        }
        | ({} if start_hash is None else {"weights": start_hash}),
    }


def event_fingerprint(run: EventRun) -> Fingerprint:
    """Return the fingerprint of an event run.

    Raises:
        CidcError: weights, truth or the stream configuration cannot be used.
    """
    detection, stride = read_detection(run.weights.stream)
    parents = {entry.path.parent.absolute() for entry in read_manifest(run.set.truth).entries}
    return {
        "events": detection.model_dump(mode="json"),
        "stride": stride,
        "only": sorted(run.set.only),
        "tolerance_seconds": run.set.tolerance_seconds,
        "videos": hash_of_videos(Path(os.path.commonpath(parents)), run.set.truth),
        "starts": {"weights": hash_of_weights(run.weights.weights)},
    }


def hash_of_weights(weights: str | Path) -> str:
    """Return the SHA-256 of a weights file, given as a path or as a name that ships.

    Raises:
        CheckpointError: there is no such file.
    """
    path = find_weights(weights)
    if path is None:
        raise CheckpointError(f"weights file not found: {weights}; name an existing file")
    facts = path.stat()
    key = (path.absolute(), facts.st_size, facts.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between two fingerprints; empty if the figures still count.

    Settings that did not exist when the run was made count as their defaults.
    """
    first, second = _current(before), _current(now)
    return sorted(key for key in first | second if first.get(key) != second.get(key))


def _current(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a fingerprint with the settings of its configuration as they are called today."""
    flat: dict[str, Any] = {key: value for key, value in fingerprint.items() if key != "config"}
    stored = fingerprint.get("config")
    if stored is None:
        return flat
    try:
        stored = _plain(check_tree(stored, TrainConfig, name="result.json"))
    except ConfigError:
        return flat  # written by another version: everything in it differs
    return flat | {f"config.{key}": value for key, value in stored.items()}


def _plain(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as plain values, with a dot for what changes no figure."""
    tree = config.model_dump(mode="json")
    defaults = TrainConfig.model_fields
    for name in _FREE - {"name", "out"}:
        tree[name] = defaults[name].default
    tree |= {"name": "run", "out": "."}
    for name in ("backbone_from", "weights_from"):
        tree[name] = None if tree[name] is None else "."
    data = type(config.data).model_fields
    tree["data"] |= {name: data[name].default for name in _FREE_DATA}
    tree["data"] |= dict.fromkeys(_FREE_PATHS, ".")
    return tree
