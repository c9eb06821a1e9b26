"""Settings of the table of results: sets, networks, seeds, and the configuration of every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from configs import StrictModel
from train.ablations.paper_tables import PAPER_TABLES
from train.data.datasets import DatasetName

__all__ = [
    "ArrowSet",
    "ClipLimit",
    "EventSet",
    "EventWeights",
    "FolderSet",
    "ManifestSet",
    "NetworkConfig",
    "PaperLink",
    "ResultsPlan",
    "ScenesSet",
    "TrainedSet",
    "WeightsOf",
]

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
ClipLimit = Annotated[int, Field(ge=1)] | Literal["all"]
_FoldNumber = Annotated[int, Field(ge=1)]


class PaperLink(StrictModel):
    """The row of the paper's tables that is the same kind of network."""

    table: str = Field(description="table of the paper, as in `train compare`")
    row: str = Field(description="name of the row")

    @model_validator(mode="after")
    def _check_row(self) -> PaperLink:
        if self.table not in PAPER_TABLES:
            raise ValueError(f"table {self.table!r} must be one of {', '.join(PAPER_TABLES)}")
        rows = [row.name for row in PAPER_TABLES[self.table].rows]
        if self.row not in rows:
            raise ValueError(f"table {self.table} has no row {self.row!r}; its rows are {rows}")
        return self

    def figure(self, column: str) -> float | None:
        """Return the paper's top-1 in per cent in a column, or None if the row has none."""
        table = PAPER_TABLES[self.table]
        paper = next(row.paper for row in table.rows if row.name == self.row)
        return dict(zip(table.columns, paper, strict=True)).get(column) if paper else None


class WeightsOf(StrictModel):
    """Another run whose weights a network starts from, with the same fold and seed, all clips."""

    set: Identifier = Field(description="id of a set earlier in the list")
    network: Identifier = Field(description="id of its network")


class NetworkConfig(StrictModel):
    """A row of the table: what the network changes in the configuration of the runs."""

    id: Identifier = Field(description="short name, part of the names of folders")
    title: str = Field(description="name in the table")
    changes: tuple[str, ...] = Field((), description="overrides as on the command line, key=value")
    weights_of: WeightsOf | None = Field(
        None, description="run whose weights it starts from; null: as the configuration says"
    )
    paper: PaperLink | None = Field(None, description="row of the paper's tables")


class TrainedSet(StrictModel):
    """What all sets have on which networks are trained."""

    id: Identifier = Field(description="short name, part of the names of folders")
    title: str = Field(description="heading in the page")
    networks: tuple[Identifier, ...] | None = Field(
        None, description="ids of the networks that are trained; null: all"
    )
    changes: tuple[str, ...] = Field((), description="overrides for all runs of the set, key=value")
    clips_per_class: tuple[ClipLimit, ...] = Field(
        ("all",),
        min_length=1,
        description="columns: number of training clips of each class, drawn by seed, or all",
    )
    group: str | None = Field(
        None,
        description=(
            "regular expression with one group in parentheses, searched in file names; videos with"
            " the same text stay in one fold, and drawn clips are spread over these texts"
        ),
    )
    paper_columns: tuple[str, ...] = Field(
        (), description="data sets of the paper whose figures stand beside this set"
    )

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The numbers of the folds that are held out, one after another."""
        return (1,)


class _FoldedSet(TrainedSet):
    """A set of videos that is divided into folds."""

    folder: Path = Field(description="folder of the videos, below data_root")
    folds: int = Field(5, ge=2, description="number of folds")
    run_folds: tuple[_FoldNumber, ...] | None = Field(
        None, description="numbers of the folds, or official splits, that are run; null: all"
    )

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The numbers of the folds that are held out, one after another."""
        return self.run_folds or tuple(range(1, self.folds + 1))


class FolderSet(_FoldedSet):
    """Videos in one folder per class, or a public data set in its original form."""

    kind: Literal["folder"] = Field(description="kind of the set")
    dataset: DatasetName = Field("folder", description="as for `python -m train manifest`")
    annotations: Path | None = Field(
        None, description="folder of the official lists, below data_root"
    )


class ArrowSet(_FoldedSet):
    """Any videos, each clip forward and backward."""

    kind: Literal["arrow"] = Field(description="kind of the set")
    max_seconds: float = Field(4.0, gt=0, le=60, description="maximum length of a clip")


class ScenesSet(TrainedSet):
    """Generated clips of twelve actions, without background."""

    kind: Literal["scenes"] = Field(description="kind of the set")
    clips: int = Field(120, ge=1, description="number of training clips of each action")
    validation_clips: int = Field(40, ge=1, description="number of test clips of each action")
    seed: int = Field(41, ge=0, description="seed of the training clips")
    validation_seed: int = Field(42, ge=0, description="seed of the test clips")


class ManifestSet(TrainedSet):
    """Videos that manifests list."""

    kind: Literal["manifests"] = Field(description="kind of the set")
    train: Path = Field(description="manifest of the training videos")
    validation: Path = Field(description="manifest of the test videos")
    labels_from: Path = Field(description="data.yaml file with the labels")


class EventWeights(StrictModel):
    """A row of a table of events: weights, and the settings with which they announce events."""

    id: Identifier = Field(description="short name, part of the names of folders")
    title: str = Field(description="name in the table")
    weights: str = Field(description="weights file, or the name of weights that ship")
    stream: Path | None = Field(
        None, description="stream configuration whose events section is used; null: defaults"
    )


class EventSet(StrictModel):
    """Untrimmed recordings with the times of their actions."""

    kind: Literal["events"] = Field(description="kind of the set")
    id: Identifier = Field(description="short name, part of the names of folders")
    title: str = Field(description="heading in the page")
    truth: Path = Field(description="manifest of the recordings with the times of their actions")
    only: tuple[str, ...] = Field((), description="actions that count; empty: all")
    tolerance_seconds: float = Field(
        1.0, gt=0, description="seconds between true and announced start"
    )
    weights: tuple[EventWeights, ...] = Field(min_length=1, description="rows of the table")


def _kind_of(tree: Any) -> str | None:
    return tree.get("kind") if isinstance(tree, Mapping) else getattr(tree, "kind", None)


_AnySet = Annotated[
    Annotated[FolderSet, Tag("folder")]
    | Annotated[ArrowSet, Tag("arrow")]
    | Annotated[ScenesSet, Tag("scenes")]
    | Annotated[ManifestSet, Tag("manifests")]
    | Annotated[EventSet, Tag("events")],
    Discriminator(
        _kind_of,
        custom_error_type="kind",
        custom_error_message="kind must be one of folder, arrow, scenes, manifests and events",
    ),
]


class ResultsPlan(StrictModel):
    """The plan of the table of results."""

    config: Path = Field(description="training configuration of every run")
    views: str = Field(
        "5x3",
        pattern=r"^[1-9]\d*x[1-9]\d*$",
        description="clips x crops of each test video",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="every network is trained once with each seed"
    )
    data_root: Path = Field(Path(), description="folder that contains the folders of the sets")
    networks: tuple[NetworkConfig, ...] = Field(min_length=1, description="rows of the tables")
    sets: tuple[_AnySet, ...] = Field(min_length=1, description="one table each")

    def networks_of(self, found: TrainedSet) -> list[NetworkConfig]:
        """Return the networks that are trained on a set."""
        names = found.networks
        return [each for each in self.networks if names is None or each.id in names]

    @model_validator(mode="after")
    def _check_names(self) -> ResultsPlan:
        _refuse_repeated("networks", (network.id for network in self.networks))
        _refuse_repeated("sets", (each.id for each in self.sets))
        _refuse_repeated("seeds", self.seeds)
        known = {network.id for network in self.networks}
        for each in self.sets:
            if isinstance(each, EventSet):
                _refuse_repeated(f"weights of {each.id}", (row.id for row in each.weights))
                continue
            _refuse_repeated(f"clips_per_class of {each.id}", each.clips_per_class)
            _refuse_repeated(f"folds of {each.id}", each.fold_numbers)
            unknown = sorted(set(each.networks or ()) - known)
            if unknown:
                raise ValueError(f"set {each.id} names networks {unknown}, which are not listed")
        return self

    @model_validator(mode="after")
    def _check_starts(self) -> ResultsPlan:
        earlier: dict[str, TrainedSet] = {}
        for each in self.sets:
            if isinstance(each, EventSet):
                continue
            for network in self.networks_of(each):
                if network.weights_of is not None:
                    self._check_start(each, network.id, network.weights_of, earlier)
            earlier[each.id] = each
        return self

    def _check_start(
        self, user: TrainedSet, network: str, start: WeightsOf, earlier: dict[str, TrainedSet]
    ) -> None:
        source = earlier.get(start.set)
        if source is None:
            raise ValueError(
                f"network {network} of set {user.id} starts from set {start.set!r}, which must"
                " stand earlier in the list; name the set's networks if it should not be trained"
            )
        trained = {each.id for each in self.networks_of(source)}
        folds = set(user.fold_numbers) <= set(source.fold_numbers)
        if start.network not in trained or "all" not in source.clips_per_class or not folds:
            raise ValueError(
                f"network {network} of set {user.id} starts from {start.network!r} of set"
                f" {source.id}, which must be trained there with all clips and the same folds"
            )


def _refuse_repeated(name: str, values: Iterable[object]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{name}: {repeated} stand there twice")
