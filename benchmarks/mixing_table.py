"""The table that `benchmarks.mixing` prints."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.support.mixing_cases import Case

__all__ = ["Line", "as_markdown", "measured", "print_lines"]


@dataclasses.dataclass(frozen=True)
class Line:
    """One measurement, in milliseconds per call."""

    memory: str
    map: str
    batch: int
    step: str
    contender: str
    median: float
    p20: float
    p80: float
    of_copy: float

    @property
    def group(self) -> tuple[str, str, str, str]:
        """The key of the measurements that are compared: all fields except the function's name."""
        return self.memory, self.map, str(self.batch), self.step

    def cells(self, ours: float) -> list[str]:
        """Return the cells of the line as text; the last is its time divided by our time."""
        times = [f"{value:.3f}" for value in (self.median, self.p20, self.p80)]
        return [
            *self.group,
            self.contender,
            *times,
            f"{self.of_copy:.2f}",
            f"{self.median / ours:.2f}",
        ]


HEADER = (
    "memory",
    "map",
    "batch",
    "pass",
    "contender",
    "median ms",
    "p20",
    "p80",
    "of copy",
    "over ours",
)


def measured(
    case: Case, step: str, name: str, seconds: Sequence[float], moved: int, copied: float
) -> Line:
    """Create a line from the times in seconds, the bytes moved per call, and a copy's rate."""
    cuts = statistics.quantiles([1e3 * value for value in seconds], n=10, method="inclusive")
    size = f"{case.channels}x{case.times}x{case.height}x{case.width}"
    return Line(
        case.memory,
        size,
        case.batch,
        step,
        name,
        cuts[4],
        cuts[1],
        cuts[7],
        moved / (1e-3 * cuts[4]) / copied,
    )


def _cells(lines: Sequence[Line]) -> list[list[str]]:
    ours = {line.group: line.median for line in lines if line.contender == "ours"}
    return [line.cells(ours[line.group]) for line in lines]


def as_markdown(lines: Sequence[Line], title: str) -> str:
    """Return the table as Markdown."""
    rows = [f"| {' | '.join(cells)} |" for cells in _cells(lines)]
    return "\n".join(
        [title, "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER), *rows, ""]
    )


def print_lines(lines: Sequence[Line], title: str) -> None:
    """Print the table."""
    table = Table(*HEADER, title=title)
    before = None
    for line, cells in zip(lines, _cells(lines), strict=True):
        if before is not None and line.group != before:
            table.add_section()
        before = line.group
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 130).print(table)
