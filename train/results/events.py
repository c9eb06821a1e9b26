"""Measures the events that weights announce on the recordings of a set."""

from __future__ import annotations

from typing import Any

from model.checkpoints.weights import load_model
from model.runtime import pick_device, pick_dtype
from train.data.manifest import read_manifest
from train.data.video_check import recording_hours
from train.evaluation.event_metrics import measure_events, only_actions
from train.evaluation.recordings import detect, recording_timelines, recordings_of
from train.evaluation.stream_file import read_detection
from train.results.plan import EventRun

__all__ = ["event_figures"]


def event_figures(run: EventRun, *, quiet: bool = False) -> dict[str, Any]:
    """Return counts, precision, recall and F1 of the events, as `train streaming` measures them.

    Raises:
        CidcError: weights, truth, a recording or the stream configuration cannot be used.
    """
    detection, stride = read_detection(run.weights.stream)
    truth = read_manifest(run.set.truth)
    device = pick_device("auto")
    network = load_model(run.weights.weights).to(device)
    assert network.spec is not None
    recordings = recordings_of(truth)
    dtype = pick_dtype("auto", device)
    timelines = recording_timelines(network, recordings, stride=stride, dtype=dtype, quiet=quiet)
    events = detect(timelines, detection, spec=network.spec)
    if run.set.only:
        truth, events = only_actions(truth, events, run.set.only)
    metrics = measure_events(
        truth,
        events,
        hours=recording_hours(truth),
        tolerance_seconds=run.set.tolerance_seconds,
    )
    return metrics.summary() | {"recordings": len(recordings)}
