"""Measure what traces of events cost, in CPU seconds of the pipeline for each clip.

    python -m benchmarks.tracing [--rounds 7] [--frames 1200]

The pipeline analyses a small file with a clip at every frame. The network is replaced by a function
that starts or ends an action at every eighth clip, so the ratios are upper bounds: a real network
adds to the cost of a clip, and real actions are rarer. The collector is a process of its own, whose
time does not count. The ways run in turn; a ratio is that of two runs of one round. The last line
is the cost of a traced event alone: its spans are made and encoded, without pipeline or connection.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console
from rich.table import Table
from torch import Tensor

from model.checkpoints.weights import read_spec
from stream.analysis.config import InferConfig, weights_path
from stream.analysis.recogniser import Recogniser
from stream.batch_times import BatchTimes
from stream.config import StreamConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from stream.tracing.config import TracingConfig
from stream.tracing.event_traces import STAGES, EventTraces
from stream.tracing.otlp import OtlpSender
from stream.tracing.span import Span
from stream.types import ClipRef, View
from tests.support.coded_video import write_video
from tests.support.collector import running_collector
from tests.support.factory import make_event

__all__ = ["main"]

_CLIPS_PER_EVENT = 8
_ACTION = 1
_EVENTS_ALONE = 500
_WAYS: dict[str, float | None] = {
    "off": None,
    "on, sample_ratio 0.01": 0.01,
    "on, sample_ratio 1.0": 1.0,
}


class Scripted(Recogniser):
    """A recogniser that computes nothing: an action goes on for eight clips of sixteen."""

    def __init__(self, config: InferConfig) -> None:
        super().__init__(config)
        self._clips = 0

    def probabilities(self, clips_BCTHW: Tensor) -> Tensor:
        """Give the action or the background to each clip, in order."""
        rows = torch.zeros(len(clips_BCTHW), len(self.spec.labels))
        for row in rows:
            row[_ACTION if self._clips // _CLIPS_PER_EVENT % 2 else 0] = 1.0
            self._clips += 1
        return rows

    def warm_up(self, max_batch: int) -> None:
        """Do nothing: there is no network to warm up."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=1200)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2")
    torch.set_num_threads(1)
    costs: dict[str, list[float]] = {way: [] for way in _WAYS}
    with _collector() as (endpoint, ask), tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "a.mp4", "libx264", range(options.frames))
        events = _check(video, endpoint, ask)
        for turn in range(options.rounds + 1):
            for way, ratio in _WAYS.items():
                seconds, _ = _run(video, endpoint, ratio)
                if turn:  # the first round warms up
                    costs[way].append(seconds)
    table = Table(
        "tracing", "CPU ms a clip, median", "p20", "p80", "ratio to off, median", "spread"
    )
    for way, values in costs.items():
        ratios = [one / off for one, off in zip(values, costs["off"], strict=True)]
        deciles = statistics.quantiles(values, n=10)
        table.add_row(
            way,
            f"{statistics.median(values) * 1e3:.3f}",
            f"{deciles[1] * 1e3:.3f}",
            f"{deciles[7] * 1e3:.3f}",
            f"{statistics.median(ratios):.3f}",
            f"{min(ratios):.3f} to {max(ratios):.3f}",
        )
    print(
        f"{events} events of {options.frames - 31} clips; {options.rounds} rounds; CPU, no network"
    )
    Console().print(table)
    alone = [_event_alone() for _ in range(options.rounds + 1)][1:]
    low, high = min(alone) * 1e3, max(alone) * 1e3
    median = statistics.median(alone) * 1e3
    print(f"a traced event alone: {median:.3f} ms of CPU ({low:.3f} to {high:.3f})")


def _event_alone() -> float:
    """Return CPU seconds to make and encode the spans of an event."""
    spans: list[Span] = []
    traces = EventTraces(spans.extend)
    events = [make_event(number + 1) for number in range(_EVENTS_ALONE)]
    started_at = time.process_time()
    for event in events:
        now = time.monotonic()
        ref = ClipRef(View("cam"), 2.0, now - 0.6, 100.0, None, now - 0.5, now - 0.4)
        times = BatchTimes(now - 0.3, now - 0.2, now - 0.1)
        traceparent = traces.begin(event, ref, times)
        traces.stored([dataclasses.replace(event, traceparent=traceparent)])
    config = TracingConfig(endpoint="http://127.0.0.1:4318/v1/traces")
    making = time.process_time() - started_at
    sender = OtlpSender(config, worker=None)
    started_at = time.process_time()
    body = sender.encoded(spans)
    seconds = making + time.process_time() - started_at
    sender.close()
    assert len(ExportTraceServiceRequest.FromString(body).resource_spans) == 1
    assert len(spans) == (len(STAGES) + 1) * len(events)
    return seconds / len(events)


def _check(video: Path, endpoint: str, ask: Connection) -> int:
    """Check that the ways find the same events and that each event has its trace."""
    found = [_run(video, endpoint, ratio)[1] for ratio in _WAYS.values()]
    assert found[0] == found[1] == found[2], "tracing must not change events"
    ask.send("roots")
    roots = ask.recv()
    expected = len(found[2])
    assert expected <= roots <= 2 * expected, f"{roots} roots of traces for {expected} events"
    return expected


def _run(
    video: Path, endpoint: str, ratio: float | None
) -> tuple[float, list[tuple[str, str, float]]]:
    """Run the pipeline; return CPU seconds of this process for each clip, and the events."""
    tracing: dict[str, Any] = {} if ratio is None else {"endpoint": endpoint, "sample_ratio": ratio}
    with tempfile.TemporaryDirectory() as folder:
        config = StreamConfig.model_validate(
            {
                "cameras": [{"id": "a", "url": str(video), "pace": "fast", "hop": 1}],
                "infer": {"device": "cpu", "precision": "float32", "threads": 1},
                "events": {
                    "smoothing": 1,
                    "default": {"cooldown_seconds": 0.0},
                    "temperature": read_spec(weights_path(InferConfig())).temperature,
                },
                "outbox": {"path": f"{folder}/outbox.db"},
                "http": {"enabled": False},
                "tracing": tracing,
            }
        )
        with contextlib.ExitStack() as stack:
            pipeline = stack.enter_context(Pipeline(config, open_recogniser=Scripted))
            started_at = time.process_time()
            clips = pipeline.run(threading.Event())["cameras"]["a"]["clips"]
            stack.close()  # what waits is sent
            seconds = time.process_time() - started_at
            dropped = pipeline.metrics.total(pipeline.metrics.trace_spans_dropped)
        assert dropped == 0, f"{dropped} spans were dropped"
        events = [stored.event for stored in read_events(config.outbox.path)]
    return seconds / clips, [(each.kind, each.action, each.pts_start_seconds) for each in events]


@contextlib.contextmanager
def _collector() -> Iterator[tuple[str, Connection]]:
    """Run a collector in another process; gives its endpoint, and a pipe to ask it for counts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_collect, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        ours.send("end")
        process.join(10)


def _collect(pipe: Connection) -> None:
    with running_collector() as collector:
        pipe.send(collector.endpoint)
        while pipe.recv() == "roots":
            pipe.send(len(collector.roots()))


if __name__ == "__main__":
    main()
