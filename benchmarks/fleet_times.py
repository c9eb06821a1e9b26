"""Arithmetic of `benchmarks.fleet`: when each camera was watched, by whom, and what was lost."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Sequence

from stream.events.event import ActionEvent

__all__ = [
    "Change",
    "Interval",
    "change",
    "describe",
    "event_problems",
    "parse_times",
    "watched_by",
]


@dataclasses.dataclass(frozen=True)
class Interval:
    """One worker ran one camera from one moment to another.

    Attributes:
        closed: monotonic seconds; infinity while the camera runs.
    """

    camera: str
    worker: str
    opened: float
    closed: float


@dataclasses.dataclass(frozen=True)
class Change:
    """What one change of the fleet did to the cameras, in seconds for each camera.

    Attributes:
        settled: from the change until each camera ran once again.
        unwatched: of the cameras that another worker has now, or that nobody ran for a moment.
        double: of all cameras, how long more than one worker ran it.
        interrupted: how many cameras stopped although they stayed with their worker.
    """

    settled: float
    unwatched: tuple[float, ...]
    double: tuple[float, ...]
    interrupted: int


def parse_times(worker: str, text: str, ended: float | None) -> list[Interval]:
    """Return the intervals of one process from its lines `open|close CAMERA GENERATION SECONDS`.

    Args:
        ended: when the process ended, which closes all its cameras; None while it runs. A last line
            that is not complete is left out.
    """
    opened: dict[tuple[str, str], float] = {}
    intervals = []
    end = float("inf") if ended is None else ended
    for line in text[: text.rfind("\n") + 1].splitlines():
        word, camera, generation, seconds = line.split(" ")
        if word == "open":
            opened[camera, generation] = float(seconds)
        else:
            at = opened.pop((camera, generation))
            intervals.append(Interval(camera, worker, at, min(float(seconds), end)))
    return intervals + [Interval(camera, worker, at, end) for (camera, _), at in opened.items()]


def watched_by(intervals: Iterable[Interval], moment: float) -> dict[str, list[str]]:
    """Return the workers that ran each camera at a moment; cameras that nobody ran are missing."""
    workers: dict[str, list[str]] = collections.defaultdict(list)
    for each in intervals:
        if each.opened <= moment < each.closed:
            workers[each.camera].append(each.worker)
    return dict(workers)


def change(
    intervals: Sequence[Interval], cameras: Iterable[str], start: float, end: float
) -> Change:
    """Measure what happened between two moments at which each camera ran once."""
    before, after = (watched_by(intervals, moment) for moment in (start, end))
    of_camera: dict[str, list[Interval]] = collections.defaultdict(list)
    for each in intervals:
        of_camera[each.camera].append(each)
    unwatched, double = [], []
    interrupted = 0
    for camera in cameras:
        nobody, several = _covered(of_camera[camera], start, end)
        double.append(several)
        moved = before.get(camera) != after.get(camera)
        if moved or nobody > 0:
            unwatched.append(nobody)
            interrupted += not moved
    return Change(end - start, tuple(unwatched), tuple(double), interrupted)


def _covered(intervals: Sequence[Interval], start: float, end: float) -> tuple[float, float]:
    """Return for how long nobody, and for how long more than one worker, ran a camera."""
    steps = [(start, 0), (end, 0)]
    for each in intervals:
        opened, closed = max(start, each.opened), min(end, each.closed)
        if opened < closed:
            steps += [(opened, 1), (closed, -1)]
    steps.sort()
    running = 0
    nobody = several = 0.0
    for (at, step), (until, _) in itertools.pairwise(steps):
        running += step
        nobody += (until - at) * (running == 0)
        several += (until - at) * (running > 1)
    return nobody, several


def describe(changes: Sequence[Change]) -> tuple[str, ...]:
    """Return one row of the table for changes of one kind.

    The cells: rounds, cameras moved in each, seconds until the fleet settled (median), unwatched
    seconds (median, p80, maximum), cameras run twice, their longest double work, and cameras
    interrupted without need.
    """
    unwatched = sorted(seconds for each in changes for seconds in each.unwatched)
    double = [seconds for each in changes for seconds in each.double if seconds > 0]
    median, p80, longest = (
        (statistics.median(unwatched), _quantile(unwatched, 0.8), unwatched[-1])
        if unwatched
        else (0.0, 0.0, 0.0)
    )
    return (
        str(len(changes)),
        f"{len(unwatched) / len(changes):.0f}",
        f"{statistics.median(each.settled for each in changes):.1f}",
        f"{median:.2f}",
        f"{p80:.2f}",
        f"{longest:.2f}",
        str(len(double)),
        f"{max(double, default=0.0):.2f}",
        str(sum(each.interrupted for each in changes)),
    )


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def event_problems(events: Iterable[ActionEvent]) -> list[str]:
    """Return what is lost or wrong, a line each; repeated deliveries are not.

    Each action has one `started` and one `ended` event, and the numbers of a camera in an epoch
    have no gap.
    """
    kinds: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    numbers: dict[str, set[int]] = collections.defaultdict(set)
    for event in events:
        numbers[event.numbering].add(event.sequence)
        kinds[event.event_id].add((event.kind, event.to_json()))
    problems = []
    for event_id, found in kinds.items():
        counts = collections.Counter(kind for kind, _ in found)
        problems += [
            f"action {event_id} has {counts[kind]} different {kind!r} events"
            for kind in ("started", "ended")
            if counts[kind] != 1
        ]
    for name, found_numbers in numbers.items():
        missing = set(range(1, max(found_numbers) + 1)) - found_numbers
        if missing:
            problems.append(f"{name} has no events {sorted(missing)[:10]}")
    return problems
