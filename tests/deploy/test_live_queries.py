"""A real Prometheus scrapes a real pipeline: queries of panels and alerts, and what they name."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from scripts.dashboard_table import tables
from stream.metrics import Metrics
from stream.pipeline import Pipeline
from tests import ROOT
from tests.support.broker import free_port
from tests.support.coded_video import write_video
from tests.support.pipelines import config_for
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.promql import Names
from tests.support.waiting import until

ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
# What a small pipeline on the CPU without a broker cannot show, and why. Their labels are compared
# with the definitions of the metrics instead.
UNFED = {
    "cidc_camera_blind": "every camera that runs gives clips",
    "cidc_software_decoding": "needs a GPU",
    "cidc_decoder_fallbacks_total": "needs a GPU",
    "cidc_open_decoders": "needs a GPU",
    "cidc_uploaded_bytes_total": "needs a GPU",
    "cidc_gpu_utilization_ratio": "needs a GPU",
    "cidc_gpu_memory_bytes": "needs a GPU",
    "cidc_gops_decoded_total": "needs DALI's decoder",
    "cidc_dropped_packets_total": "needs a decoder that is too slow",
    "cidc_dropped_frames_total": "needs a pixel format that cannot be converted",
    "cidc_dropped_clips_total": "needs a network that is too slow",
    "cidc_packets_undecodable_total": "needs damaged video",
    "cidc_fleet_partitions": "needs cameras in a topic",
    "cidc_worker_up": "needs several devices",
}
VARIABLES = {
    "$__rate_interval": "10s",
    "$__range": "1m",
    "$job": ".*",
    "$instance": ".*",
    "$worker": ".*",
    "$camera": "dead|recording",
}


def filled_in(query: str) -> str:
    """A query with values for Grafana's variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def quick_rules() -> dict[str, Any]:
    """The rules, evaluated every second and without waiting."""
    rules: dict[str, Any] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    return rules


ALERT_QUERIES = {
    rule.get("alert", rule.get("record")): rule["expr"]
    for group in quick_rules()["groups"]
    for rule in group["rules"]
}
PANEL_QUERIES = [
    (f"{table.name}: {panel.title}", legend, filled_in(query))
    for table in tables()
    for panel in table.panels
    for legend, query in panel.queries.items()
]


def defined() -> dict[str, set[str]]:
    """The metrics of the registry with their labels, under the names of their samples."""
    metrics = Metrics()
    found = {}
    for metric in [*vars(metrics).values(), *vars(metrics.worker).values()]:
        if isinstance(metric, (Counter, Gauge, Histogram)):
            endings = {Counter: ["_total"], Histogram: ["_bucket", "_sum", "_count"]}
            for ending in endings.get(type(metric), [""]):
                le = {"le"} if ending == "_bucket" else set()
                found[metric._name + ending] = {*metric._labelnames} | le
    return found


def exposed(text: str) -> dict[str, set[str]]:
    """The metrics of an exposition with their labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def scraped(
    tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Prometheus, str]]:
    """A server, and the newest exposition, while a camera and the broker are away."""
    folder = tmp_path_factory.mktemp("scraped")
    recording = write_video(folder / "loop.mp4", "mpeg4", range(90))
    config = config_for(
        tiny_weights,
        folder,
        {},
        cameras=[
            {"id": "recording", "url": str(recording), "loop": True},
            {"id": "dead", "url": f"rtsp://127.0.0.1:{free_port()}/none"},
        ],
        events={"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}},
        kafka={"bootstrap": [f"127.0.0.1:{free_port()}"], "drain_seconds": 0.1},
        snapshots={"enabled": True, "path": folder / "pictures"},
        http={"port": 0, "changes": folder / "changes.json"},
    )
    stop = threading.Event()
    with Pipeline(config) as pipeline:
        assert pipeline.http is not None
        runner = threading.Thread(target=lambda: pipeline.run(stop))
        runner.start()
        try:
            target = pipeline.http.address.removeprefix("http://")
            with running_prometheus(folder / "prometheus", target, quick_rules()) as server:
                assert until(lambda: is_fed(server), 60)
                with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                    yield server, answer.read().decode()
        finally:
            stop.set()
            runner.join(60)


def is_fed(server: Prometheus) -> bool:
    """Whether there are events, a camera that is offline, failures to publish, and a rate."""
    return all(
        server.query(query)
        for query in (
            "rate(cidc_events_total[10s]) > 0",
            'cidc_camera_state{state="offline"} == 1',
            "cidc_publish_failures_total > 0",
            "cidc_worker_load_part > 0",
            "cidc_camera_to_event_seconds_count > 0",
            'cidc_snapshots_total{outcome="written"} > 0',
        )
    )


@pytest.mark.rtsp
@pytest.mark.slow
def test_panels_and_alerts_ask_for_what_a_pipeline_shows(scraped: tuple[Prometheus, str]) -> None:
    server, text = scraped
    known: dict[str, set[str]] = exposed(text)
    assert set(UNFED) & set(known) == set(), "these are fed, so take them off the list"
    known |= {name: labels for name, labels in defined().items() if name in UNFED}
    problems = {}
    for title, legend, query in PANEL_QUERIES:
        shown = set(re.findall(r"{{(\w+)}}", legend))
        problems[title, legend] = Names.of(query).unknown(known, shown)
    for alert, query in ALERT_QUERIES.items():
        problems[alert, ""] = Names.of(query).unknown(known)
    assert {where: missing for where, missing in problems.items() if missing} == {}

    empty = set()
    for title, _, query in PANEL_QUERIES:
        if not server.query(query) and not set(Names.of(query).metrics) & set(UNFED):
            empty.add(title)
    # Nothing to show is right for these: no camera waits, hangs or is refused.
    assert empty <= {"fleet: Blind cameras, and cameras that are not taken"}, empty
    for alert, query in ALERT_QUERIES.items():
        server.query(query)  # fails if Prometheus refuses it
        assert alert


@pytest.mark.rtsp
@pytest.mark.slow
def test_the_rules_run_and_the_fault_raises_its_alert(scraped: tuple[Prometheus, str]) -> None:
    server, _ = scraped

    def rules() -> dict[str, dict[str, Any]]:
        groups = server.get("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    assert until(lambda: all(rule["health"] == "ok" for rule in rules().values()), 20), rules()
    assert set(rules()) == set(ALERT_QUERIES)

    def firing() -> dict[str, list[Mapping[str, str]]]:
        found: dict[str, list[Mapping[str, str]]] = {}
        for alert in server.get("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    assert until(lambda: "CidcCameraOffline" in firing(), 20)
    assert {labels["camera"] for labels in firing()["CidcCameraOffline"]} == {"dead"}
    quiet: Set[str] = {"CidcWorkerDown", "CidcNoWorkers", "CidcAnalysisStopped", "CidcCameraQuiet"}
    # Without its waiting time, the alert of a stopped analysis fires until there is a rate.
    assert until(lambda: not quiet & set(firing()), 20), firing()
    assert server.query("cidc:up")[0]["value"][1] == "1"
    assert server.query('cidc:camera_pause:seconds{camera="recording"}')
    assert [each["value"][1] for each in server.query("cidc_broker_configured")] == ["1"]
    folders = {each["metric"]["folder"] for each in server.query("cidc_disk_free_bytes > 0")}
    assert folders == {"outbox", "snapshots"}


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ('sum by (camera) (cidc_camera_state{state="offline", worker=~"1"})', []),
        ('cidc_camera_state{status="offline"}', ["cidc_camera_state{status}"]),
        ("sum by (kind) (cidc_camera_state)", ["kind"]),
        ("cidc_camera_stat", ["cidc_camera_stat"]),
        ('cidc:up{job="x"} == 0', []),
    ],
)
def test_names_that_do_not_exist_are_found(query: str, missing: list[str]) -> None:
    known = {"cidc_camera_state": {"camera", "state"}}
    assert Names.of(query).unknown(known) == missing


def test_each_metric_on_the_list_exists() -> None:
    assert set(UNFED) <= set(defined())
