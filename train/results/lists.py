"""Writes the manifests of the sets of a plan, and draws a few training clips of each class."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from configs import is_file, replaced_file
from train.data.arrow import ArrowOptions, write_arrow
from train.data.datasets import mirrored_labels, read_dataset, write_manifests
from train.data.datasets.class_folders import compile_group, group_of
from train.data.manifest import COLUMNS, ManifestEntry, read_manifest
from train.engine.run_log import write_json
from train.results.config import ArrowSet, FolderSet, ManifestSet, ScenesSet, TrainedSet
from train.synthetic import BACKGROUND, LABELS, ScenesOptions, write_scenes

__all__ = ["SetLists", "draw_clips", "hash_of_videos", "set_lists", "write_entries"]


@dataclasses.dataclass(frozen=True)
class SetLists:
    """The lists of one fold of a set; names of videos are told relative to `folder`."""

    train: Path
    validation: Path
    labels_from: Path
    folder: Path


def set_lists(
    found: TrainedSet, fold: int, *, data_root: Path, out: Path, make: bool = True
) -> SetLists | None:
    """Return the lists of a fold, and write them below `out` where needed.

    Args:
        make: whether to write clips that are not there yet; otherwise their set gives None.

    Raises:
        CidcError: the videos cannot be read or written.
    """
    folder = out / "sets" / found.id / f"fold{fold}"
    lists = SetLists(
        folder / "train.csv", folder / "validation.csv", folder / "data.yaml", data_root
    )
    if isinstance(found, ManifestSet):
        return SetLists(found.train, found.validation, found.labels_from, found.train.parent)
    if isinstance(found, FolderSet):
        videos = data_root / found.folder
        annotations = None if found.annotations is None else data_root / found.annotations
        dataset = read_dataset(
            found.dataset, videos, annotations, split=fold, folds=found.folds, group=found.group
        )
        write_manifests(dataset, folder)
        return dataclasses.replace(lists, folder=videos)
    if isinstance(found, ScenesSet):
        return _scenes(found, folder, make)
    assert isinstance(found, ArrowSet)
    return _arrow(found, fold, data_root, dataclasses.replace(lists, folder=folder), make)


def _arrow(
    found: ArrowSet, fold: int, data_root: Path, lists: SetLists, make: bool
) -> SetLists | None:
    options = ArrowOptions(
        data_root / found.folder,
        lists.folder,
        max_seconds=found.max_seconds,
        fold=fold,
        folds=found.folds,
        group=found.group,
    )
    facts = found.model_dump(mode="json", include={"folder", "max_seconds", "folds", "group"})
    if not _is_made(lists.folder, facts):
        if not make:
            return None
        write_arrow(options)
        write_json(lists.folder / "made.json", facts)
    return lists


def _scenes(found: ScenesSet, folder: Path, make: bool) -> SetLists | None:
    facts = found.model_dump(
        mode="json", include={"clips", "validation_clips", "seed", "validation_seed"}
    )
    parts = {
        "train": (found.seed, found.clips),
        "validation": (found.validation_seed, found.validation_clips),
    }
    manifests = {part: folder / part / "clips" / "manifest.csv" for part in parts}
    if not _is_made(folder, facts):
        if not make:
            return None
        for part, (seed, clips) in parts.items():
            write_scenes(
                ScenesOptions(
                    folder / part,
                    seed=seed,
                    clips_per_action=clips,
                    background_ratio=0,
                    recordings=0,
                )
            )
        labels = tuple(label for label in LABELS if label != BACKGROUND)
        pairs, alone = mirrored_labels(labels)
        described = {part: str(path) for part, path in manifests.items()} | {
            "labels": list(labels),
            "flip_labels": pairs,
            "no_flip_labels": list(alone),
        }
        with replaced_file(folder / "data.yaml") as partial:
            partial.write_text(yaml.safe_dump({"data": described}), encoding="utf-8")
        write_json(folder / "made.json", facts)
    return SetLists(manifests["train"], manifests["validation"], folder / "data.yaml", folder)


def _is_made(folder: Path, facts: dict[str, Any]) -> bool:
    """Return whether a folder holds finished clips that were written with these options."""
    path = folder / "made.json"
    return is_file(path) and json.loads(path.read_text(encoding="utf-8")) == facts


def draw_clips(
    entries: Sequence[ManifestEntry], clips: int, *, seed: int, group: str | None
) -> list[ManifestEntry]:
    """Draw some entries of each label, spread over the groups; a smaller draw is in a larger one.

    A label with fewer entries keeps all.

    Raises:
        DataError: the pattern does not match a file name.
    """
    pattern = compile_group(group)
    drawn: list[ManifestEntry] = []
    for label in sorted({entry.label for entry in entries}):
        groups: dict[str, list[ManifestEntry]] = {}
        for entry in sorted(entries, key=lambda each: (str(each.path), each.start_seconds or 0.0)):
            if entry.label == label:
                groups.setdefault(group_of(entry.path, label, pattern), []).append(entry)
        rng = random.Random(f"{seed}/{label}")
        shuffled = [rng.sample(groups[name], len(groups[name])) for name in sorted(groups)]
        rng.shuffle(shuffled)
        turns = max(map(len, shuffled))
        ordered = [each[turn] for turn in range(turns) for each in shuffled if turn < len(each)]
        drawn += ordered[:clips]
    return drawn


def write_entries(path: Path, entries: Sequence[ManifestEntry]) -> None:
    """Write a manifest with absolute paths."""
    with (
        replaced_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for entry in entries:
            times = (entry.start_seconds, entry.end_seconds, entry.fps)
            cells = ["" if value is None else repr(value) for value in times]
            writer.writerow([entry.path.absolute(), entry.label, *cells])


def hash_of_videos(folder: Path, *manifests: Path) -> str:
    """Return a hash of what manifests list: names in a folder, labels, times and sizes of files."""
    found = hashlib.sha256()
    root = Path(
        os.path.normpath(folder.absolute())
    )  # without `..`, so that no name depends on how it is given
    for manifest in manifests:
        for entry in read_manifest(manifest).entries:
            path = Path(os.path.normpath(entry.path.absolute()))
            name = path.relative_to(root) if path.is_relative_to(root) else path
            size = path.stat().st_size if path.is_file() else None
            facts = (str(name), entry.label, entry.start_seconds, entry.end_seconds, entry.fps)
            found.update(ascii((*facts, size)).encode())
        found.update(b"\n")
    return found.hexdigest()
