"""The targets for an H100, and the figures of the GPU check that are compared with them.

A part of the check prints a figure as `- figure NAME: VALUE`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Literal

__all__ = ["TARGETS", "Target", "figures_in", "mixing_figures", "print_figure", "targets_table"]

_FIGURE = re.compile(r"^- figure (\w+): ([-+.\deE]+)$")


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that an H100 should reach.

    Attributes:
        name: name of the figure.
        meaning: what is measured, for people.
        bound: whether the figure should be at least or at most `value`.
        value: the target.
    """

    name: str
    meaning: str
    bound: Literal["at least", "at most"]
    value: float

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure reaches the target."""
        return figure >= self.value if self.bound == "at least" else figure <= self.value


TARGETS = (
    Target(
        "mixing_forward",
        "directional mixing forward, batch 64, fraction of the bandwidth of a copy",
        "at least",
        0.90,
    ),
    Target(
        "mixing_backward",
        "directional mixing backward, batch 64, fraction of the bandwidth of a copy",
        "at least",
        0.80,
    ),
    Target(
        "network_clips_per_second",
        "CIDC on I3D-50, clips of 32 x 224 x 224 a second, bfloat16, batch 64",
        "at least",
        1500.0,
    ),
    Target(
        "training_wait_fraction",
        "fraction of the time that training waits for data, H.264 decoded by DALI",
        "at most",
        0.01,
    ),
    Target(
        "decoder_frames_per_second",
        "NVDEC packet by packet, 1920 x 1080 H.264, frames a second: 100 cameras of 30",
        "at least",
        3000.0,
    ),
    Target(
        "camera_to_event_p95_seconds_128",
        "128 cameras of 1920 x 1080 at 30 frames a second: from a frame to its result, p95, s",
        "at most",
        0.5,
    ),
    Target(
        "host_to_device_bytes_per_frame",
        "the same cameras: bytes copied to the GPU for each decoded frame",
        "at most",
        30_000.0,
    ),
)


def print_figure(name: str, value: float) -> None:
    """Print a figure so that the check finds it."""
    print(f"- figure {name}: {value:.4g}")


def figures_in(lines: Sequence[str]) -> dict[str, float]:
    """Return the figures that a part printed."""
    found = (_FIGURE.match(line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


def mixing_figures(lines: Sequence[str]) -> dict[str, float]:
    """Return the worst fractions of copy bandwidth in the Markdown table of `benchmarks.mixing`.

    Only our kernel at batch 64 in channels-last memory counts: the networks use this memory.
    """
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    if not rows:
        return {}
    header, *others = rows
    wanted = {"memory": "last", "batch": "64", "contender": "ours"}
    found: dict[str, float] = {}
    for cells in others:
        row = dict(zip(header, cells, strict=False))
        if any(row.get(key) != value for key, value in wanted.items()):
            continue
        name = f"mixing_{row['pass']}"
        found[name] = min(float(row["of copy"]), found.get(name, float("inf")))
    return found


def targets_table(figures: Mapping[str, float]) -> list[str]:
    """Return the targets and the figures found as a Markdown table."""
    lines = ["| Figure | Target on an H100 | Found | |", "|---|---|---|---|"]
    for target in TARGETS:
        figure = figures.get(target.name)
        found = "not measured" if figure is None else f"{figure:.4g}"
        words = "" if figure is None else ("met" if target.is_met(figure) else "missed")
        lines.append(f"| {target.meaning} | {target.bound} {target.value:g} | {found} | {words} |")
    return lines
