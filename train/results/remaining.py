"""Estimates how long the unfinished runs of a plan take, from those that are done."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from train.results.plan import PlannedRun, TrainingRun
from train.results.runs import RunStatus

__all__ = ["remaining_seconds"]


def remaining_seconds(statuses: Mapping[PlannedRun, RunStatus]) -> float | None:
    """Return the seconds that unfinished runs take; None if no finished run tells.

    A run takes as long as the mean of the finished runs most like it: those of the same set,
    network and number of clips, or else of the same set and number, or of the set, or all.
    """
    measured: dict[tuple[object, ...], list[float]] = {}
    waiting = []
    for run, status in statuses.items():
        if status.state == "done" and status.result is not None:
            for kind in _kinds(run):
                measured.setdefault(kind, []).append(status.result["seconds"])
        elif status.state != "left out":
            waiting.append(run)
    estimates = [_first(measured.get(kind) for kind in _kinds(run)) for run in waiting]
    known = [estimate for estimate in estimates if estimate is not None]
    return sum(known) if len(known) == len(waiting) else None


def _kinds(run: PlannedRun) -> list[tuple[object, ...]]:
    """Return keys of the runs that are like this one, the most similar first."""
    if isinstance(run, TrainingRun):
        same = (run.set.id, run.clips)
        return [(*same, run.network.id), same, (run.set.id,), ("trained",)]
    return [(run.set.id, "events"), ("events",)]


def _first(found: Iterable[list[float] | None]) -> float | None:
    return next((statistics.fmean(each) for each in found if each), None)
