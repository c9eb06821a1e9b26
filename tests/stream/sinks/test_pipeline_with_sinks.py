"""A whole pipeline that sends its events to a web server and to mosquitto, without Kafka."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest

from stream.pipeline import Pipeline
from stream.start_check import check_start
from tests.support.mosquitto import mosquitto, subscriber
from tests.support.pipelines import config_for
from tests.support.waiting import until
from tests.support.webhook_receiver import webhook_receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.mark.broker
@pytest.mark.slow
def test_a_pipeline_sends_its_events_by_webhook_and_mqtt(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    secret_file.chmod(0o600)
    with mosquitto(tmp_path) as server, webhook_receiver() as receiver:
        config = config_for(
            tiny_weights,
            tmp_path,
            dict.fromkeys(("a", "b"), scenes / "clips/fall/0000.mp4"),
            events={"smoothing": 1, "default": {"enter": 0.05, "exit": 0.0}},
            webhooks=[
                {
                    "name": "alarm",
                    "url": f"http://127.0.0.1:{receiver.port}/T0PSECRET?x=T0PSECRET",
                    "secret_file": secret_file,
                    "allow_private": True,
                    "filter": {"cameras": ["a"]},
                }
            ],
            mqtt=[{"name": "home", "url": f"mqtt://127.0.0.1:{server.port}"}],
        )
        assert check_start(config) is None
        assert receiver.requests == []
        with subscriber(server.port, "cidc/#") as reader, Pipeline(config) as pipeline:
            summary = pipeline.run(threading.Event())
            exposition = pipeline.metrics.exposition().decode()
            report = json.dumps(pipeline._sinks.report())
        made = sum(count for kinds in summary["events"].values() for count in kinds.values())
        assert until(lambda: len(reader.events()) == made > 0)
        assert until(lambda: [*map(bytes.decode, statuses(reader.messages))][-1] == "offline")
    assert statuses(reader.messages) == [b"online", b"offline"]
    for camera in ("a", "b"):
        seen = [each["sequence"] for each in reader.events() if each["camera_id"] == camera]
        assert seen == list(range(1, len(seen) + 1))
    assert all(request.is_signed(SECRET) for request in receiver.requests)
    of_a = [each for each in reader.events() if each["camera_id"] == "a"]
    assert receiver.events == of_a  # the same documents, in the same order
    assert summary["sinks"]["alarm"]["events"] == len(of_a) < made
    assert summary["outbox_left"] == 0
    for text in (exposition, report, json.dumps(summary)):
        assert "T0PSECRET" not in text
    assert f"http://127.0.0.1:{receiver.port}" in report


def statuses(messages: list) -> list[bytes]:  # type: ignore[type-arg]
    """The messages that say whether the pipeline is connected."""
    return [each.payload for each in messages if each.topic.startswith("cidc/status/")]
