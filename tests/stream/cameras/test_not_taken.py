"""Cameras that cannot be taken, in the metrics and in the health report."""

from __future__ import annotations

from pathlib import Path

from stream.cameras.config import CameraConfig
from stream.cameras.not_taken import NotTaken, NotTakenCamera
from stream.cameras.overrides import CameraOverrides
from stream.metrics import Metrics
from stream.pipeline import Pipeline
from stream.serve.health import health_report
from tests.support.pipelines import config_for


def gauge(metrics: Metrics, reason: str) -> float:
    found = metrics.registry.get_sample_value("cidc_cameras_not_taken", {"reason": reason})
    assert found is not None
    return found


def test_each_camera_counts_under_its_reason_until_it_is_taken() -> None:
    metrics = Metrics()
    not_taken = NotTaken(metrics)
    assert [gauge(metrics, reason) for reason in ("no_slot", "load", "unusable")] == [0, 0, 0]
    not_taken.note("a", "load", "busy")
    not_taken.note("b", "no_slot", "no room")
    not_taken.note("a", "no_slot", "no room")
    assert [gauge(metrics, reason) for reason in ("no_slot", "load")] == [2, 0]
    not_taken.forget("a")
    not_taken.forget("never")
    assert not_taken.cameras == (NotTakenCamera("b", "no_slot", "no room"),)
    report = health_report({}, (), load={"network": 0.25}, not_taken=not_taken.cameras)
    assert report["status"] == "degraded"
    assert report["not_taken"] == [{"camera": "b", "reason": "no_slot", "detail": "no room"}]
    assert report["load"] == 0.25


def test_added_cameras_for_which_there_is_no_room_at_a_start_are_named(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = str(scenes / "clips/fall/0000.mp4")
    changes = CameraOverrides(tmp_path / "changes.json")
    changes.apply([])
    changes.note("added", CameraConfig(id="added", url="tcp://127.0.0.1:1"))
    sections = {"cameras": [{"id": "a", "url": path}], "batch": {"max_views": 1}}
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **sections)) as pipeline:
        (camera,) = pipeline.manager.not_taken.cameras
        assert (camera.camera, camera.reason) == ("added", "no_slot")
        assert "batch.max_views (1)" in camera.detail
        assert gauge(pipeline.metrics, "no_slot") == 1
        pipeline.manager.remove("added")
        assert gauge(pipeline.metrics, "no_slot") == 0
