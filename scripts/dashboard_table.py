"""The table of panels, `deploy/grafana/panels.yaml`, as values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram

from stream.metrics import Metrics

__all__ = ["KINDS", "Panel", "Table", "helps", "names_in", "tables"]

ROOT = Path(__file__).resolve().parent.parent
PANELS = ROOT / "deploy" / "grafana" / "panels.yaml"
KINDS = ("stat", "lines", "stacked", "states", "table")
_WORKERS = 'job=~"$job", instance=~"$instance", worker=~"$worker"'
_SELECTIONS = {"$S": _WORKERS, "$C": f'{_WORKERS}, camera=~"$camera"'}
_WIDTHS = {"stat": 4}
_HEIGHTS = {"stat": 4}
_NAME = re.compile(r"\b(?:cidc|process)_\w+")


@dataclasses.dataclass(frozen=True)
class Panel:
    """One panel of the table.

    Attributes:
        queries: legend to query, with `$S` and `$C` replaced by their selections.
        limits: yellow and red, each with the value from which a panel has that colour.
        width, height: in columns and lines of Grafana's grid; 0: as its kind has.
        top: highest value of the axis; None: as the values need.
        colors: of series, by their names.
    """

    title: str
    kind: str
    queries: Mapping[str, str]
    unit: str = "short"
    width: int = 0
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    about: str = ""
    top: float | None = None
    height: int = 0
    colors: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Panel:
        """Read a panel of the table.

        Raises:
            TypeError: it has a key that no panel has.
            ValueError: its kind does not exist.
        """
        panel = cls(**fields)
        if panel.kind not in KINDS:
            raise ValueError(f"panel {panel.title!r} has kind {panel.kind!r}; use one of {KINDS}")
        queries = {legend: _selected(query) for legend, query in panel.queries.items()}
        width = panel.width or _WIDTHS.get(panel.kind, 8)
        height = panel.height or _HEIGHTS.get(panel.kind, 8)
        return dataclasses.replace(panel, queries=queries, width=width, height=height)


@dataclasses.dataclass(frozen=True)
class Table:
    """One dashboard of the table: its rows are titles with their panels."""

    name: str
    title: str
    about: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    of_a_camera: bool

    @property
    def panels(self) -> Iterator[Panel]:
        """The panels of all rows."""
        for _, panels in self.rows:
            yield from panels


def tables() -> list[Table]:
    """Read the dashboards from the table."""
    return [
        Table(
            each["name"],
            each["title"],
            each["about"],
            tuple(
                (row["title"], tuple(Panel.of(panel) for panel in row["panels"]))
                for row in each["rows"]
            ),
            each.get("of_a_camera", False),
        )
        for each in yaml.safe_load(PANELS.read_text(encoding="utf-8"))
    ]


def _selected(query: str) -> str:
    for name, selection in _SELECTIONS.items():
        query = query.replace(name + "}", selection + "}").replace(name + ",", selection + ",")
    return query


def helps() -> dict[str, str]:
    """Map the name of each metric, as Prometheus shows it, to its text."""
    metrics = Metrics()
    found = {}
    parts = (metrics, metrics.sinks, metrics.worker, metrics.verify)
    for metric in (each for part in parts for each in vars(part).values()):
        if isinstance(metric, (Counter, Gauge, Histogram)):
            endings = {Counter: ("_total",), Histogram: ("_bucket", "_sum", "_count")}
            for ending in endings.get(type(metric), ("",)):
                found[metric._name + ending] = metric._documentation
    return found


def names_in(query: str) -> list[str]:
    """Return the metrics that a query names, each once."""
    return list(dict.fromkeys(_NAME.findall(query)))
