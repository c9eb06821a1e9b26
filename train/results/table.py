"""Turns the results of runs into the cells of tables: means, spreads, and what is behind them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from train.results.config import EventSet, ResultsPlan, TrainedSet
from train.results.plan import PlannedRun, TrainingRun, planned_runs
from train.results.runs import RunStatus

__all__ = ["NOT_RUN", "accuracy_cell", "event_table", "markdown_table", "set_table"]

NOT_RUN = "not run"
_EVENT_FIGURES = {
    "true events": "true_events",
    "found": "found",
    "false": "false",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "false per camera-hour": "false_per_camera_hour",
}

Statuses = Mapping[PlannedRun, RunStatus]


def set_table(plan: ResultsPlan, found: TrainedSet, statuses: Statuses) -> list[list[str]]:
    """Return the table of a set: a row for each network, a column for each number of clips.

    The first row is the header. Columns of the paper stand at the end.
    """
    columns = [
        "all training clips" if clips == "all" else f"{clips} training clips a class"
        for clips in found.clips_per_class
    ]
    rows = [["", *columns, *(f"paper, {name}" for name in found.paper_columns)]]
    for network in plan.networks_of(found):
        cells = [
            accuracy_cell(
                [
                    (run, status)
                    for run, status in statuses.items()
                    if isinstance(run, TrainingRun)
                    and (run.set, run.network, run.clips) == (found, network, clips)
                ]
            )
            for clips in found.clips_per_class
        ]
        figures = [
            None if network.paper is None else network.paper.figure(name)
            for name in found.paper_columns
        ]
        paper = ["" if figure is None else f"{figure:.1f}" for figure in figures]
        rows.append([network.title, *cells, *paper])
    return rows


def accuracy_cell(runs: Sequence[tuple[TrainingRun, RunStatus]]) -> str:
    """Return mean and standard deviation of top-1 in per cent, and what they were measured on.

    The deviation is that of a sample, over all runs; one run has none. Test clips are those of the
    folds that are done, each counted once.
    """
    done = [(run, status.result) for run, status in runs if status.result is not None]
    if not done:
        return "failed" if any(status.state == "failed" for _, status in runs) else NOT_RUN
    values = [100 * result["figures"]["top1"] for _, result in done]
    clips = sum({run.fold: result["figures"]["videos"] for run, result in done}.values())
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    count = str(len(done)) if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
    plural = "run" if len(runs) == 1 else "runs"
    return f"{statistics.fmean(values):.1f}{spread} ({count} {plural}, {clips} clips)"


def event_table(plan: ResultsPlan, found: EventSet, statuses: Statuses) -> list[list[str]]:
    """Return the table of a set of recordings: a row for each weights file; the header first."""
    rows = [["", *_EVENT_FIGURES]]
    for run in planned_runs(plan):
        if isinstance(run, TrainingRun) or run.set != found:
            continue
        status = statuses[run]
        if status.result is None:
            word = "failed" if status.state == "failed" else NOT_RUN
            rows.append([run.weights.title, *[word] * len(_EVENT_FIGURES)])
            continue
        figures = status.result["figures"]
        rows.append(
            [run.weights.title, *(_number(figures[key]) for key in _EVENT_FIGURES.values())]
        )
    return rows


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; its first row is the header."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"
