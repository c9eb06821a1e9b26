"""Keeps the maps of a frozen backbone on disk, a file for each clip.

A folder holds the maps of one backbone with one preprocessing; `features.json` says which. The name
of a file is a hash of its clip: the video, its part, the start, the size, crop and mirroring.

Letters: C channels, T time, H and W space.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs import CheckpointError, ConfigError, DataError, naming_errors, write_file
from model.checkpoints.weights import read_safetensors, write_safetensors
from model.media.container import resolved
from model.media.image_sequence import size_and_mtime
from model.network import ActionNetwork
from train.data.clip_plan import PlannedClip

__all__ = ["FeatureCache", "backbone_hash", "map_count"]

_FACTS = "features.json"
_LARGEST = torch.finfo(torch.float16).max


class FeatureCache:
    """The maps of clips in a folder, in float16.

    Args:
        folder: folder of the cache; it is created.
        facts: what determines the maps of a clip, besides the clip.

    Raises:
        ConfigError: the folder holds the maps of another backbone or another preprocessing, or
            cannot be used.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self._folder = folder
        self._facts: dict[str, Any] = json.loads(json.dumps(facts))
        path = folder / _FACTS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"features.cache: {path} cannot be used ({error}); name another folder"
            ) from None
        if there is None:
            with naming_errors(path):
                write_file(path, json.dumps(self._facts, indent=2) + "\n")
        elif there != self._facts:
            raise ConfigError(
                f"features.cache: {folder} holds features of another kind:"
                f" {_difference(there, self._facts)}; name another folder, or delete this one"
            )

    def has(self, clip: PlannedClip) -> bool:
        """Return whether the maps of a clip are there."""
        return self._path(clip).is_file()

    def read(self, clip: PlannedClip) -> list[Tensor]:
        """Return the maps of a clip, `C T H W` in float16, highest resolution first.

        Raises:
            DataError: the file is damaged; the message says that it can be deleted.
        """
        path = self._path(clip)
        try:
            tensors, _ = read_safetensors(path)
        except CheckpointError as error:
            raise DataError(f"{error}; delete {path}, it will be computed again") from None
        return [tensors[name] for name in sorted(tensors)]

    def write(self, clip: PlannedClip, maps: Sequence[Tensor]) -> None:
        """Keep the maps of a clip."""
        tensors = {
            f"map_{number}": map_CTHW.clamp(-_LARGEST, _LARGEST).half().cpu().contiguous()
            for number, map_CTHW in enumerate(maps)
        }
        path = self._path(clip)
        with naming_errors(path.parent):
            path.parent.mkdir(exist_ok=True)
        write_safetensors(path, tensors, {})

    def _path(self, clip: PlannedClip) -> Path:
        """Return the file of a clip; its label is not part of the name."""
        entry = clip.entry
        facts = size_and_mtime(entry.path) if entry.path.exists() else None
        where = dataclasses.replace(entry, path=Path(resolved(entry.path)), label="")
        key = repr((dataclasses.replace(clip, entry=where, label=0), facts))
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.safetensors"


def backbone_hash(network: ActionNetwork) -> str:
    """Return a hash of the backbone's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.backbone.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def map_count(network: ActionNetwork) -> int:
    """Return how many of the backbone's maps the rest of the network reads, from the last one."""
    return 1 if network.cidc is None or network.cidc.config.scales == "single" else 3


def _difference(there: Any, here: Mapping[str, Any]) -> str:
    if not isinstance(there, dict):
        return f"its {_FACTS} is damaged"
    names = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"{name} is {there.get(name)} there and {here[name]} here" for name in names)
