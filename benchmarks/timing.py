"""Time several functions in turns, with the CPU's clock or the device's clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

__all__ = ["alternate", "captured", "copy_bytes_per_second", "take_turns"]


def alternate(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Run the functions in turns on the CPU; return their times after two warm-up rounds."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 2):
        for index, run in enumerate(runs):
            started_at = time.perf_counter()
            run()
            if turn >= 2:
                times[index].append(time.perf_counter() - started_at)
    return times


def copy_bytes_per_second(device: torch.device) -> float:
    """Measure the bytes per second that a copy of a very large tensor reads and writes."""
    size = 1 << (30 if device.type == "cuda" else 28)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return (
        2
        * size
        / statistics.median(take_turns([lambda _: target.copy_(source)], device, calls=3)[0])
    )


def take_turns(
    runs: Sequence[Callable[[int], object]],
    device: torch.device,
    calls: int,
    *,
    queued: bool = True,
) -> list[list[float]]:
    """Run the functions in turns; return the seconds per call of each.

    After two warm-up rounds, each function gets 5 to 40 samples of `calls` calls, depending on a
    time budget. With `queued`, the time of Python is not included on a GPU.
    """
    times: list[list[float]] = [[] for _ in runs]
    budget = 0.4 * len(runs) if device.type == "cuda" else 4.0 * len(runs)
    started_at = time.perf_counter()
    for turn in range(42):
        if turn >= 7 and time.perf_counter() - started_at > budget:
            break
        for number, run in enumerate(runs):
            seconds = _one_sample(run, device, turn * calls, calls, queued=queued)
            if turn >= 2:
                times[number].append(seconds)
    return times


def _one_sample(
    run: Callable[[int], object], device: torch.device, first: int, calls: int, *, queued: bool
) -> float:
    if device.type == "cpu":
        started_at = time.perf_counter()
        for index in range(first, first + calls):
            run(index)
        return (time.perf_counter() - started_at) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if queued:
        # wait about two milliseconds, so that all calls are queued before the first one starts
        torch.cuda._sleep(4_000_000)
    start.record()
    for index in range(first, first + calls):
        run(index)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3 / calls


def captured(run: Callable[[int], object], calls: int = 20) -> Callable[[int], object]:
    """Capture many calls in one CUDA graph, so that a replay needs no time in Python."""
    run(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(calls):
            run(index)
    return lambda _: graph.replay()
