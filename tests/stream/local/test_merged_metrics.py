"""Metrics of several workers in one text, read back with prometheus_client's own parser."""

from __future__ import annotations

import prometheus_client.openmetrics.parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stream.local.merged_metrics import merge_metrics
from stream.metrics import Metrics


def filled(frames: int, camera: str) -> Metrics:
    metrics = Metrics()
    metrics.decoded.labels(camera).inc(frames)
    metrics.events.labels(camera, "a {strange} label, with = and }", "started").inc()
    metrics.stage.labels("infer").observe(0.02)
    metrics.latency.observe(0.1 * frames)
    metrics.views.set(frames)
    return metrics


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_sample_is_there_once_with_its_worker() -> None:
    texts = {
        name: filled(frames, camera).exposition().decode()
        for name, frames, camera in (("0", 3, "a"), ("1", 5, "b"))
    }
    merged = merge_metrics(texts)
    expected = {
        (name, tuple(sorted((*labels, ("worker", worker))))): value
        for worker, text in texts.items()
        for (name, labels), value in samples(text).items()
    }
    found = samples(merged)
    clocks = ("process_", "_created")
    assert {key: value for key, value in found.items() if not any(c in key[0] for c in clocks)} == {
        key: value for key, value in expected.items() if not any(c in key[0] for c in clocks)
    }
    assert len(found) == len(expected)
    headings = [line for line in merged.splitlines() if line.startswith("# TYPE")]
    assert len(headings) == len(set(headings))


def test_samples_with_a_worker_of_their_own_stay_as_they_are() -> None:
    own = '# HELP up Runs\n# TYPE up gauge\nup{worker="0"} 1.0\n'
    merged = merge_metrics({"": own, "0": "# HELP up Runs\n# TYPE up gauge\nviews 2.0\n"})
    assert merged == '# HELP up Runs\n# TYPE up gauge\nup{worker="0"} 1.0\nviews{worker="0"} 2.0\n'


def test_exemplars_survive_and_openmetrics_ends_once() -> None:
    made = {"0": filled(3, "a"), "1": filled(5, "b")}
    for worker, metrics in made.items():
        metrics.observe_latency(0.03, f"{int(worker) + 1:032x}")
    own = "# HELP up Runs\n# TYPE up gauge\nup 1.0\n# EOF\n"
    texts = {"": own} | {name: metrics.openmetrics().decode() for name, metrics in made.items()}
    merged = merge_metrics(texts, openmetrics=True)
    assert merged.endswith("\n# EOF\n")
    assert merged.count("# EOF") == 1
    families = {
        family.name: family for family in openmetrics.text_string_to_metric_families(merged)
    }
    assert {"up", "cidc_camera_to_event_seconds", "cidc_frames_decoded"} <= families.keys()
    exemplars = {
        sample.labels["worker"]: (
            sample.labels["le"],
            sample.exemplar.labels,
            sample.exemplar.value,
        )
        for sample in families["cidc_camera_to_event_seconds"].samples
        if sample.exemplar is not None
    }
    assert exemplars == {
        "0": ("0.05", {"trace_id": f"{1:032x}"}, 0.03),
        "1": ("0.05", {"trace_id": f"{2:032x}"}, 0.03),
    }
    counts = {
        sample.labels["worker"]: sample.value
        for sample in families["cidc_frames_decoded"].samples
        if sample.name.endswith("_total")
    }
    assert counts == {"0": 3.0, "1": 5.0}
    assert "trace_id" not in merge_metrics(
        {name: metrics.exposition().decode() for name, metrics in made.items()}
    )
