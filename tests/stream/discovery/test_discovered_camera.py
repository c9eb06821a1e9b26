"""A device that was found becomes a camera of a running pipeline, by one request."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stream.pipeline import Pipeline
from tests.support.fake_onvif import FakeOnvif
from tests.support.pipelines import config_for
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until


def ask(address: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.rtsp
@pytest.mark.slow
def test_one_request_brings_the_frames_of_a_device_into_a_running_pipeline(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    stop = threading.Event()
    video = scenes / "clips/fall/0000.mp4"
    with (
        RtspServer({"/sub": video}, login="viewer:p@ss") as cameras,
        FakeOnvif(f"rtsp://127.0.0.1:{cameras.port}/{{token}}", login=("viewer", "p@ss")) as device,
        Pipeline(config_for(tiny_weights, tmp_path, {})) as pipeline,
    ):
        thread = threading.Thread(target=lambda: pipeline.run(stop, duration_seconds=60))
        thread.start()
        try:
            assert until(pipeline.health.started.is_set)
            assert pipeline.http is not None
            address = pipeline.http.address
            wanted = {"addresses": [device.probe_address], "username": "viewer"}
            wanted |= {"password": "p@ss", "add": {"id": "door"}}
            report = ask(f"{address}/discover", wanted)
            assert report["added"] == "door"
            assert report["devices"][0]["chosen"] == "sub"

            def frames() -> float:
                return pipeline.metrics.total(pipeline.metrics.sampled, camera="door")

            assert until(lambda: frames() > 10), ask(f"{address}/cameras/door")
        finally:
            stop.set()
            thread.join()
