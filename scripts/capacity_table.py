"""What one machine carries and needs: cameras, cores, memory, network and disk.

    python -m scripts.capacity_table

Computed from the inputs of `scripts/scaling_inputs.py`. Nothing is computed for GPUs, because
nothing has been measured on one.
"""

from __future__ import annotations

import sys

from scripts.scaling_inputs import value
from scripts.scaling_sums import cameras_on, events_per_second, hours_until_full, markdown
from stream.events.config import OutboxConfig, SnapshotConfig
from stream.ingest.config import SourceConfig

__all__ = ["main", "memory_megabytes", "outbox_megabytes", "tables"]

_CORES = (2, 4, 8, 16)
_CAMERAS = (1, 4, 15, 30, 60, 120)
_MEASURED_CORES = 2
_AWAY_HOURS = (1, 24, 72)  # for which the broker may be away


def tables() -> str:
    """Return all tables in Markdown."""
    parts = {
        "Cameras for each machine": _machines(),
        "What the cameras of one process need": _needs(),
        "Disk for the outbox while the broker is away": _disk(),
    }
    return "\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def memory_megabytes(cameras: int) -> float:
    """Return the usual memory of a process: on the line through two measured points."""
    one, ten = value("memory_one_megabytes"), value("memory_ten_megabytes")
    return one + (cameras - 1) * (ten - one) / 9


def outbox_megabytes(cameras: int, how: str, hours: float) -> float:
    """Return the size of an outbox that `busy` or `calm` cameras have filled for so many hours.

    With its default settings it stops to grow at `outbox.max_events`, and drops the oldest.
    """
    events = min(events_per_second(cameras, how) * hours * 3600, OutboxConfig().max_events)
    return events * value("outbox_bytes") / 1e6


def _machines() -> str:
    rows = [("CPU cores", "network", "cameras of 720p30 at full load", "to plan with (computed)")]
    for large, name in ((False, "the demo's"), (True, "CIDC on I3D-50")):
        for cores in _CORES:
            cameras = cameras_on(cores, large_network=large)
            is_measured = cores == _MEASURED_CORES and not large
            proof = "measured" if is_measured else "computed"
            planned = int(cameras * value("fill_fraction"))
            rows.append((str(cores), name, f"{cameras} ({proof})", str(planned)))
    return markdown(rows)


def _needs() -> str:
    queue = SourceConfig().max_queue_megabytes
    head = (
        "cameras of 720p30",
        "CPU cores, demo's network",
        "memory, usually, MB",
        "memory if all decoders fall behind, MB",
        "video in, Mbit/s",
        "events out, busy, kbit/s",
        "series of Prometheus",
    )
    rows = [
        (
            f"{cameras}",
            f"{cameras * value('cores_per_camera'):.1f}",
            f"{memory_megabytes(cameras):,.0f}",
            f"{memory_megabytes(cameras) + cameras * queue:,.0f}",
            f"{cameras * value('stream_megabits'):,.0f}",
            f"{events_per_second(cameras, 'busy') * value('event_bytes') * 8 / 1000:,.1f}",
            f"{cameras * value('series_per_camera'):,.0f}",
        )
        for cameras in _CAMERAS
    ]
    return markdown([head, *rows])


def _disk() -> str:
    times = [f"{hours} h, MB" for hours in _AWAY_HOURS]
    head = ("cameras", "actions", "events in an hour", *times, "events are dropped after, h")
    rows = [
        (
            str(cameras),
            how,
            f"{events_per_second(cameras, how) * 3600:,.0f}",
            *(f"{outbox_megabytes(cameras, how, hours):,.0f}" for hours in _AWAY_HOURS),
            f"{hours_until_full(cameras, how):,.0f}",
        )
        for cameras in _CAMERAS
        for how in ("calm", "busy")
    ]
    pictures = SnapshotConfig().keep_megabytes
    note = f"\nPictures of events, if they are kept, take at most {pictures:,.0f} MB more.\n"
    return markdown([head, *rows]) + note


def main() -> int:
    """Print the tables; return the exit status."""
    print(tables(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
