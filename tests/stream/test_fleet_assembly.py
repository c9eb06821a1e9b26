"""A pipeline as a worker: its cameras come from a topic of a real broker."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent
from stream.fleet.registry import CameraTopic
from stream.fleet.table import table_of
from stream.fleet.topic import find_compacted_topic
from stream.pipeline import Pipeline
from tests.support.broker import running_broker
from tests.support.coded_video import write_video
from tests.support.pipelines import config_for
from tests.support.topics import all_records
from tests.support.waiting import until

# With some brokers, joining a group takes half a minute.
JOIN_SECONDS = 120.0


@pytest.mark.broker
@pytest.mark.slow
def test_a_worker_runs_the_cameras_of_the_topic_and_says_so(
    tiny_weights: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "loop.mp4", "mpeg4", range(90))
    with running_broker() as broker:
        topic = KafkaConfig.model_validate(
            {"bootstrap": broker, "topic": "cameras", "partitions": 2}
        )
        find_compacted_topic(topic)
        writer = CameraTopic(topic)
        fields = {"url": str(video), "loop": True}
        gone = {"url": str(tmp_path / "gone.mp4"), "loop": True}
        writer.put([{"id": "good", **fields}, {"id": "gone", **gone}], table_of([]))
        writer.close()
        config = config_for(
            tiny_weights,
            tmp_path,
            {},
            cameras_from={"topic": "cameras", "worker": "me"},
            kafka={"bootstrap": broker},
            http={"port": 0, "files": [tmp_path]},
            events={"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}},
        )
        stop = threading.Event()
        summaries: list[dict[str, object]] = []
        with Pipeline(config) as pipeline:
            runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
            runner.start()
            try:
                assert until(lambda: bool(pipeline.active("good")), JOIN_SECONDS)
                health = read_health(pipeline)
                metrics = pipeline.metrics.exposition().decode()
            finally:
                stop.set()
                runner.join(60)
        events = [ActionEvent.from_json(r.value) for r in all_records(broker, "action-events")]
    assert health["status"] == "degraded"
    assert health["worker"]["worker"] == "me"
    assert health["worker"]["problem"] is None
    (refused,) = health["not_taken"]
    assert (refused["camera"], refused["reason"]) == ("gone", "unusable")
    assert "gone.mp4" in refused["detail"]
    assert 'cidc_fleet_partitions{phase="running"} 2.0' in metrics
    assert "cidc_fleet_topic_partitions 2.0" in metrics
    assert "cidc_broker_configured 1.0" in metrics
    assert 'cidc_cameras_not_taken{reason="unusable"} 1.0' in metrics
    assert {(event.worker, event.camera_id) for event in events} == {("me", "good")}
    assert all(event.epoch is not None for event in events)
    assert summaries[0]["worker"]["worker"] == "me"  # type: ignore[index]
    assert summaries[0]["outbox_left"] == 0


def read_health(pipeline: Pipeline) -> dict[str, Any]:
    assert pipeline.http is not None
    with urllib.request.urlopen(f"{pipeline.http.address}/health", timeout=10) as answer:
        found: dict[str, dict[str, dict[str, dict[str, str]]]] = json.loads(answer.read())
    return found
