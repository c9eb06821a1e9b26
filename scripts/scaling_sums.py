"""Sums that the tables of a fleet and of one machine share."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.scaling_inputs import value
from stream.events.config import OutboxConfig

__all__ = ["CLIPS_PER_SECOND", "cameras_on", "events_per_second", "hours_until_full", "markdown"]

CLIPS_PER_SECOND = 15 / 4  # positions of the time grid in a second, and the default hop


def cameras_on(cores: int, *, large_network: bool = False) -> int:
    """Return how many cameras of 720p30 so many CPU cores carry.

    Args:
        large_network: whether the network is CIDC on I3D-50, not the demo's.
    """
    if not large_network:
        return int(value("cameras_per_pair")) * cores // 2
    # 8 clips need two cores for this long
    clip_cores = 2 * value("large_network_ms") / 1000 / 8
    rest = value("cores_per_camera") - value("network_cores")
    return int(cores / (rest + clip_cores * CLIPS_PER_SECOND))


def events_per_second(cameras: int, how: str) -> float:
    """Return the events of so many cameras, which are `busy` or `calm`."""
    actions = cameras * value(f"{how}_actions_per_hour") / 3600
    return actions * value("events_per_action")


def hours_until_full(cameras: int, how: str = "busy") -> float:
    """Return how long a broker may be away until an outbox with default settings is full."""
    return OutboxConfig().max_events / events_per_second(cameras, how) / 3600


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table; the first one has the headings."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"
