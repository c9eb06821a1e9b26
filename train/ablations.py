"""The paper's ablations at this project's scale: every variant from the same backbone, with the
same budget, over several seeds.

Each seed first trains a backbone with average pooling; every variant then starts from it and trains
on, so that all rows of a table have seen the same clips equally often. Finished runs are kept and
not repeated; one that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from configs import ConfigError, DataError, StrictModel
from model.network import ModelConfig
from train.config import OptimiserConfig, TrainConfig
from train.data.clip_store import ClipStore
from train.data.loader import open_store
from train.engine.trainer import train

__all__ = [
    "PAPER_TABLES",
    "CompareConfig",
    "PaperRow",
    "PaperTable",
    "Result",
    "cell",
    "compare",
    "markdown",
    "result_rows",
    "variants",
]


class CompareConfig(StrictModel):
    """A set of runs: tables, seeds, and what all variants share."""

    out: Path = Field(description="folder for the runs, compare.json, compare.md and compare.png")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), description="every variant is trained with each of these", min_length=1
    )
    tables: tuple[str, ...] = Field(
        ("4a", "4b", "5a", "5b", "normalisation"),
        description="which of the paper's tables",
        min_length=1,
    )
    backbone: OptimiserConfig = Field(
        description="schedule of the backbone, trained with average pooling before all variants"
    )
    run: TrainConfig = Field(
        description="the full network's run; variants differ from it in their network alone"
    )

    @model_validator(mode="after")
    def _check(self) -> CompareConfig:
        unknown = sorted(set(self.tables) - set(PAPER_TABLES))
        if unknown:
            raise ValueError(f"tables: {unknown} are unknown; there are {list(PAPER_TABLES)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one twice")
        if (
            self.run.model.cidc is None
            or self.run.backbone_from is not None
            or self.run.weights_from is not None
        ):
            raise ValueError(
                "run: must have a cidc section, and neither backbone_from nor weights_from: each"
                " seed trains its own backbone"
            )
        if self.run.data.labels_from is not None:
            raise ValueError(
                "run.data.labels_from: write the labels out; comparisons are complete in one file"
            )
        return self


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of a table: its name, the changes to `model` and `model.cidc` that make it, and the
    paper's top-1 in per cent.

    `cidc` of None leaves the CIDC network out.
    """

    name: str
    model: Mapping[str, Any]
    cidc: Mapping[str, Any] | None
    paper: tuple[float | None, ...] = ()


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper, and the data sets of its columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


_THREE = ("UCF-101", "HMDB-51", "Kinetics-400")
_POOL = (92.9, 69.1, 73.8)
_FULL = (97.2, 74.9, 74.5)
PAPER_TABLES: dict[str, PaperTable] = {
    "4a": PaperTable(
        "Table 4a: parts of the CIDC network",
        _THREE,
        (
            PaperRow("backbone, average pooling", {}, None, _POOL),
            PaperRow("single-scale", {}, {"scales": "single"}, (95.2, 73.6, 74.0)),
            PaperRow("multi-scale", {}, {"scales": "multi"}, (95.9, 74.1, 74.4)),
            PaperRow("multi-scale, attention", {}, {"scales": "multi_attention"}, _FULL),
        ),
    ),
    "4b": PaperTable(
        "Table 4b: direction",
        _THREE,
        (
            PaperRow("backbone, average pooling", {}, None, _POOL),
            PaperRow("no direction", {}, {"direction": "none"}, (94.1, 72.5, 73.9)),
            PaperRow("one direction", {}, {"direction": "uni"}, (95.5, 73.1, 74.2)),
            PaperRow("two directions", {}, {"direction": "bi"}, _FULL),
        ),
    ),
    "5a": PaperTable(
        "Table 5a: other temporal models",
        _THREE,
        (
            PaperRow("backbone, average pooling", {}, None, _POOL),
            PaperRow("LSTM", {"head": "lstm"}, None, (63.2, 31.3, 63.4)),
            PaperRow("self-attention", {"head": "self_attention"}, None, (94.7, 69.7, 74.2)),
            PaperRow("CIDC", {}, {}, (95.3, 73.6, 74.5)),
        ),
    ),
    "5b": PaperTable(
        "Table 5b: fusion with the backbone's map",
        ("Kinetics-400",),
        (
            PaperRow("backbone, average pooling", {}, None, (73.8,)),
            PaperRow("along time", {}, {"fusion": "time"}, (74.5,)),
            PaperRow("along channels", {}, {"fusion": "channels"}, (74.1,)),
            PaperRow("sum", {}, {"fusion": "sum"}, (73.7,)),
        ),
    ),
    "normalisation": PaperTable(
        "Normalisation of the mixing weights (not in the paper)",
        (),
        (
            PaperRow("affine", {}, {"normalisation": "affine"}),
            PaperRow("minmax", {}, {"normalisation": "minmax"}),
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What one run found: top-1, and accuracy within time-reversed pairs where the labels have
    such (chance is 0.5).
    """

    top1: float
    pairs: float | None


def compare(
    config: CompareConfig, *, quiet: bool = False, stop: threading.Event | None = None
) -> dict[str, list[Result]]:
    """Run what has not been run yet.

    Returns:
        For each variant, named after its first row, a result per seed.

    Raises:
        StoppedError: `stop` was set; the run at hand is saved, and the next call goes on there.
        DataError: the folder holds runs with other settings.
        CidcError: as `train`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "compare trains its runs one after the other in one process: start it without torchrun"
        )
    store = open_store(config.run.data, config.run.model.frames)
    results: dict[str, list[Result]] = {}
    for seed in config.seeds:
        first = _backbone_run(config, seed)
        _run_once(first, store, quiet, stop)
        for name, model in variants(config).items():
            run = config.run.model_copy(
                update={
                    "name": name,
                    "model": model,
                    "seed": seed,
                    "out": config.out / f"{name}-seed{seed}",
                    "backbone_from": first.out / "model.safetensors",
                }
            )
            results.setdefault(name, []).append(_run_once(run, store, quiet, stop))
    return results


def variants(config: CompareConfig) -> dict[str, ModelConfig]:
    """The distinct networks of the wanted tables, by the name of the first row of any table that
    has them.
    """
    found: dict[str, ModelConfig] = {}
    wanted: set[str] = set()
    # all of them: a network keeps its name whatever tables are asked for
    for key, table in PAPER_TABLES.items():
        for row in table.rows:
            model = _model_of(row, config)
            name = next(
                (name for name, other in found.items() if other == model),
                row.name.replace(",", "").replace(" ", "-").lower(),
            )
            found.setdefault(name, model)
            if key in config.tables:
                wanted.add(name)
    return {name: model for name, model in found.items() if name in wanted}


def result_rows(
    config: CompareConfig, results: Mapping[str, Sequence[Result]]
) -> list[dict[str, Any]]:
    """A row for each of the tables' rows: mean and spread (standard deviation over seeds) in per
    cent, and the paper's figures.
    """
    names = {model.model_dump_json(): name for name, model in variants(config).items()}
    rows = []
    for key in config.tables:
        table = PAPER_TABLES[key]
        for row in table.rows:
            found = results[names[_model_of(row, config).model_dump_json()]]
            pairs = [100 * result.pairs for result in found if result.pairs is not None]
            rows.append(
                {
                    "table": table.title,
                    "row": row.name,
                    "top1": _spread([100 * result.top1 for result in found]),
                    "pairs": _spread(pairs) if pairs else None,
                    "paper": dict(zip(table.columns, row.paper, strict=True)),
                }
            )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as one Markdown table for each of the paper's tables."""
    lines: list[str] = []
    for title in dict.fromkeys(row["table"] for row in rows):
        mine = [row for row in rows if row["table"] == title]
        header = ["", "top-1", "within pairs", *(f"paper, {column}" for column in mine[0]["paper"])]
        lines += [f"**{title}**", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for row in mine:
            cells = [
                row["row"],
                cell(row["top1"]),
                cell(row["pairs"]),
                *map(str, row["paper"].values()),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _model_of(row: PaperRow, config: CompareConfig) -> ModelConfig:
    full = config.run.model
    assert full.cidc is not None  # CompareConfig has checked it
    cidc = None if row.cidc is None else {**full.cidc.model_dump(), **row.cidc}
    return ModelConfig.model_validate({**full.model_dump(), **row.model, "cidc": cidc})


def _backbone_run(config: CompareConfig, seed: int) -> TrainConfig:
    model = config.run.model.model_copy(update={"cidc": None})
    return config.run.model_copy(
        update={
            "name": "backbone",
            "model": model,
            "seed": seed,
            "out": config.out / f"backbone-seed{seed}",
            "optimiser": config.backbone,
        }
    )


def _run_once(
    run: TrainConfig, store: ClipStore, quiet: bool, stop: threading.Event | None
) -> Result:
    """The result of a run that is done, or do it: from the beginning, or from where it was
    stopped.
    """
    path = run.out / "result.json"
    settings = json.loads(run.model_dump_json())
    if (run.out / "config.json").is_file():
        before = json.loads((run.out / "config.json").read_text(encoding="utf-8"))
        if before != settings:
            different = sorted(key for key in settings if before.get(key) != settings[key])
            raise DataError(
                f"{run.out} holds a run with other settings ({', '.join(different)}); remove it or"
                " choose another out"
            )
    if path.is_file():
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    scores = train(
        run, resume=(run.out / "last.safetensors").is_file(), quiet=quiet, stop=stop, store=store
    )
    pairs = [value for value in scores.within_pairs().values() if not math.isnan(value)]
    result = Result(scores.top1(), statistics.fmean(pairs) if pairs else None)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(dataclasses.asdict(result)) + "\n", encoding="utf-8")
    partial.replace(path)
    return result


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; a single value has none."""
    return round(statistics.fmean(values), 2), (
        round(statistics.stdev(values), 2) if len(values) > 1 else None
    )


def cell(value: tuple[float, float | None] | None) -> str:
    """A mean with its spread, as far as there are such."""
    if value is None:
        return ""
    return f"{value[0]:.1f}" if value[1] is None else f"{value[0]:.1f} ± {value[1]:.1f}"
