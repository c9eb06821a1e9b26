"""The runs of a plan, in the order in which they are done."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from configs import DataError
from train.results.config import (
    ArrowSet,
    ClipLimit,
    EventSet,
    EventWeights,
    FolderSet,
    ManifestSet,
    NetworkConfig,
    ResultsPlan,
    TrainedSet,
)

__all__ = [
    "EventRun",
    "PlannedRun",
    "TrainingRun",
    "chosen",
    "missing_source",
    "planned_runs",
    "start_of",
]


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """One network, trained once on the training clips of one fold, and measured on the others."""

    set: TrainedSet
    network: NetworkConfig
    fold: int
    clips: ClipLimit
    seed: int

    @property
    def name(self) -> str:
        """The name of the run, which is also its folder."""
        return f"{self.set.id}/fold{self.fold}/{self.network.id}/{self.clips}/seed{self.seed}"

    @property
    def start_name(self) -> str | None:
        """The name of the run whose weights this one starts from, if there is one."""
        start = self.network.weights_of
        if start is None:
            return None
        return f"{start.set}/fold{self.fold}/{start.network}/all/seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class EventRun:
    """Weights that are run over the recordings of a set."""

    set: EventSet
    weights: EventWeights

    @property
    def name(self) -> str:
        """The name of the run, which is also its folder."""
        return f"{self.set.id}/{self.weights.id}"


PlannedRun = TrainingRun | EventRun


def planned_runs(plan: ResultsPlan) -> list[PlannedRun]:
    """Return all runs: set by set, and in a set the first seed of everything first."""
    runs: list[PlannedRun] = []
    for each in plan.sets:
        if isinstance(each, EventSet):
            runs += [EventRun(each, weights) for weights in each.weights]
            continue
        runs += [
            TrainingRun(each, network, fold, clips, seed)
            for seed in plan.seeds
            for fold in each.fold_numbers
            for clips in each.clips_per_class
            for network in plan.networks_of(each)
        ]
    return runs


def start_of(run: TrainingRun, plan: ResultsPlan) -> TrainingRun | None:
    """Return the run whose weights a run starts from; None if it starts from no other run."""
    start = run.network.weights_of
    if start is None:
        return None
    found = next(each for each in plan.sets if each.id == start.set)
    assert not isinstance(found, EventSet)  # the plan was checked
    network = next(each for each in plan.networks if each.id == start.network)
    return TrainingRun(found, network, run.fold, "all", run.seed)


def chosen(runs: Sequence[PlannedRun], pattern: str | None) -> list[PlannedRun]:
    """Return the runs in whose names a regular expression is found; None chooses all.

    Raises:
        DataError: the pattern is not a regular expression, or is found in no name.
    """
    if pattern is None:
        return list(runs)
    try:
        found = [run for run in runs if re.search(pattern, run.name)]
    except re.error as error:
        raise DataError(f"--only {pattern!r} is not a regular expression: {error}") from None
    if not found:
        raise DataError(f"--only {pattern!r} is in no name of a run, such as {runs[0].name}")
    return found


def missing_source(found: TrainedSet | EventSet, data_root: Path) -> Path | None:
    """Return the folder or file of a set that is not there; None if the set can be used."""
    if isinstance(found, (FolderSet, ArrowSet)):
        path = data_root / found.folder
        return None if path.is_dir() else path
    if isinstance(found, ManifestSet):
        files: tuple[Path, ...] = (found.train, found.validation, found.labels_from)
    else:
        files = (found.truth,) if isinstance(found, EventSet) else ()
    return next((path for path in files if not path.is_file()), None)
