"""Prepares a run: reads the manifests, builds network and stepper, opens the clip reader."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import torch

from model.cidc import use_mixing
from model.mixing import mixing_choice
from model.network import ActionNetwork, build_model, to_channels_last
from model.runtime import pick_device, pick_dtype
from train.config import TrainConfig
from train.data.clip_plan import TrainingClipPlan
from train.data.clip_store import ClipStore
from train.data.loader import open_reader, open_store
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.readable import readable_entries
from train.distributed import Ranks
from train.engine.pretrained import load_backbone, load_whole
from train.engine.run import TrainingRun
from train.engine.run_log import environment, write_json
from train.engine.step import Stepper, check_batch

__all__ = ["prepare_folder", "set_up_run"]

_log = logging.getLogger(__name__)


def prepare_folder(out: Path, *, resume: bool) -> None:
    """Create the run's folder; unless the run is resumed, remove the logs of an earlier run."""
    out.mkdir(parents=True, exist_ok=True)
    if not resume:
        for path in (out / "log.txt", *out.glob("quarantine*.csv")):
            path.unlink(missing_ok=True)
        shutil.rmtree(out / "tensorboard", ignore_errors=True)


def set_up_run(
    config: TrainConfig, stop: threading.Event, store: ClipStore | None, ranks: Ranks
) -> TrainingRun:
    """Create a run that is ready for its first step.

    Raises:
        CidcError: a setting, a manifest or a weights file cannot be used.
    """
    check_batch(config.optimiser, ranks)
    device = pick_device(config.device)
    dtype = pick_dtype(config.precision, device)
    # If the configuration requires kernels that cannot run, fail now and not at the first step.
    mixing_choice(config.mixing, device)
    if ranks.is_first:
        write_json(config.out / "environment.json", environment())
        write_json(config.out / "config.json", config.model_dump(mode="json"))
    store = store or open_store(config.data, config.model.frames)
    training, validation = _read_entries(config, store, ranks)
    check_batch(config.optimiser, ranks, videos=len(training))
    network = _build_network(config, device)
    stepper = Stepper(network, config, device=device, dtype=dtype, ranks=ranks)
    _log.info(
        "%d training and %d validation videos on %s in %s",
        len(training),
        len(validation),
        device,
        dtype,
    )
    max_bad = int(config.data.max_bad_fraction * len(training))
    name = "quarantine.csv" if ranks.is_first else f"quarantine-{ranks.rank}.csv"
    return TrainingRun(
        config,
        network=network,
        stepper=stepper,
        ranks=ranks,
        clip_plan=TrainingClipPlan(training, config.data, config.seed),
        validation=validation,
        reader=open_reader(config.data, store, device, processes=ranks.local_size),
        quarantine=Quarantine(config.out / name, max_bad),
        device=device,
        dtype=dtype,
        stop=stop,
    )


def _read_entries(
    config: TrainConfig, store: ClipStore, ranks: Ranks
) -> tuple[list[ManifestEntry], list[ManifestEntry]]:
    """Return the readable training and validation videos."""
    data = config.data
    training: list[ManifestEntry] = []
    for manifest in [read_manifest(path) for path in (data.train, *data.also)]:
        training += readable_entries(manifest, data, store, ranks=ranks)
    validation = readable_entries(read_manifest(data.validation), data, store, ranks=ranks)
    return training, validation


def _build_network(config: TrainConfig, device: torch.device) -> ActionNetwork:
    network = build_model(config.model).to(device)
    use_mixing(network, config.mixing)
    network.backbone.checkpointing = config.activation_checkpointing
    if config.backbone_from is not None:
        load_backbone(network, config.backbone_from, config.preprocess)
    if config.weights_from is not None:
        load_whole(network, config.weights_from)
    to_channels_last(network)
    return network
