"""A fleet on paper: workers, partitions, events, bandwidth and disk, by number of cameras.

    python -m scripts.scaling_table [--cameras 500 2000 10000]

`scripts/scaling_inputs.py` has the inputs, with the page that each comes from. Nothing here was
measured with more than one machine, and nothing on a GPU.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence

from scripts.scaling_inputs import input_table, value
from scripts.scaling_sums import (
    CLIPS_PER_SECOND,
    cameras_on,
    events_per_second,
    hours_until_full,
    markdown,
)
from stream.events.kafka import partition_of_key

__all__ = [
    "KINDS",
    "Kind",
    "Plan",
    "largest_worker",
    "main",
    "partitions_for",
    "plan",
    "tables",
]

_FPS = 30.0
_CORES = 16
_STEP = 1.05  # so many times more workers, if one of them gets too many cameras
_MAX_PARTITIONS = 10_000  # that `cameras_from.partitions` accepts
_DAY_SECONDS = 86_400
_SIZES = (500, 2_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of worker.

    Attributes:
        capacity: cameras that it carries.
        proof: how far that is known.
        megabits: of each camera's stream, in a second.
    """

    name: str
    capacity: int
    proof: str
    megabits: float


def _kinds() -> tuple[Kind, ...]:
    gpu = min(
        value("nvdec_frames_per_second") / _FPS,
        value("gpu_clips_per_second") / CLIPS_PER_SECOND,
        1e6 / value("packet_microseconds") / _FPS,
    )
    video, large_video = value("stream_megabits"), value("large_stream_megabits")
    return (
        Kind("2 cores, demo's network, 720p", cameras_on(2), "measured", video),
        Kind(
            f"{_CORES} cores, demo's network, 720p",
            cameras_on(_CORES),
            "extrapolated from 2 cores",
            video,
        ),
        Kind(
            f"{_CORES} cores, CIDC on I3D-50, 720p",
            cameras_on(_CORES, large_network=True),
            "extrapolated from 2 cores",
            video,
        ),
        Kind("one H100, CIDC on I3D-50, 1080p", int(gpu), "target", large_video),
    )


KINDS = _kinds()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one fleet needs.

    Attributes:
        largest: cameras of the worker that gets the most, if every partition has an equal chance.
        receives: Mbit/s of video that the largest worker receives.
    """

    cameras: int
    kind: Kind
    workers: int
    partitions: int
    largest: int
    receives: float


def plan(cameras: int, kind: Kind) -> Plan:
    """Compute the workers and partitions for a number of cameras.

    There are as many workers as the planned fraction of their capacity asks for, and more until the
    fullest one has no more cameras than it carries.
    """
    workers = math.ceil(cameras / (kind.capacity * value("fill_fraction")))
    while True:
        partitions = partitions_for(workers)
        largest = largest_worker(cameras, partitions, workers)
        if largest <= kind.capacity:
            return Plan(cameras, kind, workers, partitions, largest, largest * kind.megabits)
        workers = math.ceil(workers * _STEP)


def partitions_for(workers: int) -> int:
    """Return the smallest power of two with enough partitions for each worker, 64 at least."""
    wanted = max(64.0, workers * value("partitions_per_worker"))
    return 1 << math.ceil(math.log2(wanted))


def largest_worker(cameras: int, partitions: int, workers: int) -> int:
    """Return how many cameras the fullest worker gets.

    The cameras are `camera-00001` and so on. Each worker has as many partitions as every other, or
    one more. With more workers than partitions, some have none.
    """
    counts: collections.Counter[int] = collections.Counter()
    for number in range(1, cameras + 1):
        partition = partition_of_key(f"camera-{number:05}".encode(), partitions)
        counts[partition % workers] += 1
    return max(counts.values())


def tables(sizes: Sequence[int] = _SIZES) -> str:
    """Return all tables in Markdown."""
    plans = [plan(cameras, kind) for kind in KINDS for cameras in sizes]
    parts = {
        "Inputs": input_table(),
        "Workers and partitions": _worker_table(plans),
        "Few partitions": _spread_table(max(sizes)),
        "Everything else": _total_table(sizes),
    }
    return "\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def _worker_table(plans: Sequence[Plan]) -> str:
    rows = [
        (
            each.kind.name,
            f"{each.kind.capacity} ({each.kind.proof})",
            f"{each.cameras:,}",
            f"{each.workers:,}",
            _with_limit(each.partitions),
            f"{each.cameras / each.workers:.0f}",
            str(each.largest),
            f"{each.receives:,.0f}",
        )
        for each in plans
    ]
    head = (
        "worker",
        "cameras it carries",
        "cameras",
        "workers",
        "partitions",
        "cameras for each, mean",
        "fullest worker",
        "video it receives, Mbit/s",
    )
    return markdown([head, *rows])


def _with_limit(partitions: int) -> str:
    return f"{partitions:,}" + (" (too many)" if partitions > _MAX_PARTITIONS else "")


def _spread_table(cameras: int) -> str:
    """How the number of partitions spreads the cameras over the workers."""
    kind = KINDS[1]
    workers = plan(cameras, kind).workers
    mean = cameras / workers
    head = ("partitions", f"fullest of {workers} workers", "times the mean", "workers without one")
    rows = [
        (
            f"{partitions:,}",
            str(largest := largest_worker(cameras, partitions, workers)),
            f"{largest / mean:.1f}",
            str(max(0, workers - partitions)),
        )
        for partitions in (64, 256, 1024, 4096)
    ]
    return markdown([head, *rows])


def _total_table(sizes: Sequence[int]) -> str:
    rows: list[tuple[str, Callable[[int], float], str]] = [
        ("video, 720p, Gbit/s", lambda n: n * value("stream_megabits") / 1000, ".1f"),
        ("video, 1080p, Gbit/s", lambda n: n * value("large_stream_megabits") / 1000, ".1f"),
        ("clips a second", lambda n: n * CLIPS_PER_SECOND, ",.0f"),
        ("events a second, busy", lambda n: events_per_second(n, "busy"), ",.0f"),
        ("events a second, calm", lambda n: events_per_second(n, "calm"), ",.0f"),
        ("topic of events, busy, GB with replicas", lambda n: _topic_gigabytes(n, "busy"), ",.0f"),
        ("topic of events, calm, GB with replicas", lambda n: _topic_gigabytes(n, "calm"), ",.0f"),
        (
            "records a second in the topic of open events, busy",
            lambda n: (
                events_per_second(n, "busy") * 1.5
            ),  # one for each event, and a tombstone for each end
            ",.0f",
        ),
        (
            "topic of cameras after compaction, MB",
            lambda n: n * value("camera_record_bytes") / 1e6,
            ".1f",
        ),
        ("series of Prometheus", lambda n: n * value("series_per_camera"), ",.0f"),
        (
            "samples a second, scraped every 15 s",
            lambda n: n * value("series_per_camera") / 15,
            ",.0f",
        ),
        (
            "outboxes of all workers for a day without a broker, busy, GB",
            lambda n: events_per_second(n, "busy") * _DAY_SECONDS * value("outbox_bytes") / 1e9,
            ",.1f",
        ),
        (
            f"hours until the outbox of a worker with {KINDS[1].capacity} cameras is full, busy",
            lambda _: hours_until_full(KINDS[1].capacity),
            ".1f",
        ),
    ]
    head = ("", *(f"{size:,} cameras" for size in sizes))
    return markdown(
        [head, *((name, *(format(of(size), form) for size in sizes)) for name, of, form in rows)]
    )


def _topic_gigabytes(cameras: int, how: str) -> float:
    seconds = value("retention_days") * _DAY_SECONDS
    return (
        events_per_second(cameras, how) * seconds * value("event_bytes") * value("replicas") / 1e9
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="A fleet on paper.")
    parser.add_argument("--cameras", type=int, nargs="+", default=_SIZES)
    options = parser.parse_args(arguments)
    print(tables(options.cameras), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
