"""Cameras that run and give no clips are reported, with the reason."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path

import pytest

from stream.cameras.blindness import BlindnessWatch, explain_blindness
from stream.cameras.config import CameraConfig
from stream.cameras.status import CameraStatus
from stream.config import StreamConfig
from stream.metrics import Metrics
from stream.pipeline import Pipeline
from stream.types import BlindReason, EndReason
from tests.support.chaos import TcpCamera, mpegts, streamed
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "no_frames"),
        ({"reconnects": 1}, "no_frames"),
        ({"reconnects": 5}, "reconnects"),
        ({"reconnects": 5, "decoded": 60, "reconnect": 4, "gap": 1}, "reconnects"),
        ({"packets": 700}, "decoder_behind"),
        ({"corrupt": 375, "reconnects": 1}, "undecodable"),
        ({"decoded": 375, "sampled": 0, "corrupt": 225}, "undecodable"),
        ({"decoded": 375, "sampled": 0, "conversion": 225, "gap": 225}, "undecodable"),
        ({"decoded": 5, "wrong_time": 5}, "frame_rate"),
        ({"decoded": 375, "wrong_time": 300, "gap": 1}, "timestamps"),
        ({"decoded": 375, "repeated_time": 375}, "timestamps"),
        ({"decoded": 375, "sampled": 225, "gap": 9, "size": 2}, "timestamps"),
        ({"decoded": 375, "sampled": 225, "size": 9, "backwards": 2}, "frame_size"),
        ({"decoded": 200, "sampled": 100, "dropped": 8, "packets": 175}, "decoder_behind"),
        ({"decoded": 375, "sampled": 225, "no_slot": 225}, "no_slot"),
        ({"decoded": 375, "sampled": 225, "overload": 56}, "overload"),
        ({"decoded": 375, "sampled": 225, "not_finite": 56}, "invalid_results"),
        ({"decoded": 375, "sampled": 225}, "no_results"),
        ({"decoded": 10, "sampled": 6}, "overload"),
    ],
)
def test_the_reason_is_what_the_counts_show(change: dict[str, float], reason: str) -> None:
    assert explain_blindness(change, 15.0) == BlindReason(reason)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("stream.cameras.blindness.time.monotonic", lambda: self.now)


class Watched:
    """One camera under watch, with a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(monkeypatch)
        self.metrics = Metrics()
        self.status = CameraStatus(CameraConfig(id="a", url="rtsp://h/a"), self.metrics)
        self.watch = BlindnessWatch(self.metrics, 30.0)

    def pass_time(self, seconds: int, clip_every: int | None = None) -> None:
        for second in range(seconds):
            self.clock.now += 1
            if clip_every is not None and second % clip_every == 0:
                self.metrics.clips.labels("a").inc()
            self.watch.update([self.status])

    @property
    def series(self) -> list[str]:
        text = self.metrics.exposition().decode()
        return [line for line in text.splitlines() if line.startswith("cidc_camera_blind{")]


def test_a_camera_that_runs_without_clips_is_blind_until_a_clip_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watched = Watched(monkeypatch)
    watched.status.set_state("running")
    watched.pass_time(29)
    assert watched.status.blind is None
    watched.pass_time(3)
    assert watched.status.blind is not None
    assert watched.status.snapshot().blind == watched.status.blind
    assert watched.series == ['cidc_camera_blind{camera="a",reason="no_frames"} 1.0']
    watched.pass_time(60)
    assert sum("has given no clip for 30 s (no_frames)" in line for line in caplog.messages) == 1
    watched.pass_time(2, clip_every=1)
    assert (watched.status.blind, watched.series) == (None, [])
    assert "camera a gives clips again" in caplog.messages
    watched.pass_time(100, clip_every=25)
    assert watched.status.blind is None


def test_offline_and_ended_cameras_are_not_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.status.set_state("offline", "no answer")
    watched.pass_time(100)
    assert watched.status.blind is None
    watched.status.set_state("running")
    watched.pass_time(40)
    assert watched.status.blind is not None
    watched.status.end(EndReason.PAUSED)
    watched.pass_time(2)
    assert (watched.status.blind, watched.series) == (None, [])
    watched.status.set_state("running")  # patience starts again
    watched.pass_time(25)
    assert watched.status.blind is None


def test_a_camera_whose_connection_breaks_all_the_time_is_blind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    for _ in range(8):
        watched.status.set_state("running")
        watched.metrics.decoded.labels("a").inc(20)
        watched.pass_time(1)
        watched.status.set_state("stalled", "read error")
        watched.metrics.resets.labels("a", "stalled").inc()
        watched.pass_time(4)
    assert watched.status.blind is not None
    assert watched.status.blind.reason == "reconnects"


def test_a_process_that_was_suspended_is_not_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.status.set_state("running")
    watched.pass_time(20)
    watched.clock.now += 500
    watched.pass_time(20)
    assert watched.status.blind is None


@pytest.mark.slow
def test_a_blind_camera_is_named_over_http_and_fails_no_probe(
    tiny_weights: Path, tmp_path: Path
) -> None:
    sizes = [(320, 240), (352, 288)] * 12
    data = mpegts(sizes, fps=15, seconds_each=1.0)
    with TcpCamera(streamed(data, seconds=24.0)) as camera:
        config = StreamConfig.model_validate(
            {
                "cameras": [{"id": "gate", "url": camera.url}],
                "clip": {"blind_after_seconds": 3.0},
                "infer": {"weights": str(tiny_weights), "device": "cpu"},
                "outbox": {"path": tmp_path / "outbox.db"},
                "http": {"port": 0, "changes": tmp_path / "changes.json"},
            }
        )
        stop = threading.Event()
        with Pipeline(config) as pipeline:
            thread = threading.Thread(target=pipeline.run, args=(stop,))
            thread.start()
            try:
                assert until(lambda: any(each.blind for each in pipeline.cameras()), 30)
                assert pipeline.http is not None
                base = pipeline.http.address
                report = ask(f"{base}/health")
                assert report["status"] == "degraded"
                assert report["cameras"] == {"running": 1}
                (problem,) = report["problems"]
                assert (problem["camera"], problem["reason"]) == ("gate", "frame_size")
                assert "fixed resolution" in problem["detail"]
                (described,) = ask(f"{base}/cameras")
                assert described["state"] == "running"
                assert described["blind"]["reason"] == "frame_size"
                assert described["blind"]["seconds"] >= 3
                for probe in ("startup", "ready", "live"):
                    with urllib.request.urlopen(f"{base}/{probe}", timeout=10) as answer:
                        assert answer.status == 200
            finally:
                stop.set()
                thread.join()


def ask(address: str) -> object:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.loads(answer.read())
