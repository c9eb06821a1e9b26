"""Second looks in the wired pipeline, against the frames of the file and an endpoint that hangs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import load_model
from model.checkpoints.weights import ModelSpec
from model.media.preprocess import Preprocessor
from model.media.video import sampled_frames
from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.config import StreamConfig
from stream.events.event import ActionEvent
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests.support.chat_endpoint import ChatEndpoint, say
from tests.support.pipelines import config_for, recogniser_that
from tests.support.schema import check_event
from tests.support.waiting import until

EVENTS: dict[str, Any] = {"smoothing": 1, "default": {"cooldown_seconds": 0.0}}


@pytest.fixture
def recording(scenes: Path) -> Path:
    """A recording of 18 seconds."""
    return min((scenes / "recordings").glob("*.mp4"))


def configured(
    recording: Path, weights: Path, folder: Path, endpoint: str, **settings: object
) -> StreamConfig:
    """A pipeline that reads the recording and takes second looks."""
    verify = {
        "endpoint": endpoint,
        "model": "vlm",
        "frames": 3,
        "quality": 95,
        "prompt": "{action}?",
        "max_per_minute": 6000,
        "max_waiting": 1000,
        "drain_seconds": 20.0,
    }
    sections = {"events": EVENTS, "verify": verify | settings}
    return config_for(weights, folder, {"a": recording}, **sections)


def stored(folder: Path) -> list[ActionEvent]:
    """The events in the outbox, which must be valid and numbered without a gap."""
    events = [each.event for each in read_events(folder / "outbox.db")]
    for event in events:
        check_event(event.to_json())
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


def scripted() -> Callable[[InferConfig], Recogniser]:
    """A network that reports an action at each sixth clip, for two clips."""
    number = itertools.count()

    def infer(clips_BCTHW: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
        rows = torch.zeros(len(clips_BCTHW), real(clips_BCTHW).shape[1])
        for row in rows:
            turn, place = divmod(next(number), 6)
            row[0 if place < 4 else 1 + turn % 3] = 1.0
        return rows

    return recogniser_that(infer)


def small_frames(recording: Path, weights: Path, columns: slice = slice(None)) -> NDArray[np.uint8]:
    """The frames of the recording as the network gets them, made without the pipeline."""
    spec = load_model(weights).spec
    assert isinstance(spec, ModelSpec)
    preprocess = Preprocessor(spec.preprocess, max_batch=1)
    frames = [
        np.ascontiguousarray(frame[:, columns])
        for frame in sampled_frames(recording, 15.0, short_side=96)
    ]
    return torch.cat([preprocess([frame[None]])[0].clone() for frame in frames]).numpy()


@pytest.mark.slow
def test_every_action_gets_an_answer_about_its_own_frames(
    recording: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ChatEndpoint(say("no", "x")) as endpoint:
        config = configured(recording, tiny_weights, tmp_path, endpoint.address)
        with Pipeline(config, open_recogniser=scripted()) as pipeline:
            summary = pipeline.run(threading.Event())
        text = pipeline.metrics.exposition().decode()
    events = stored(tmp_path)
    started = [event for event in events if event.kind == "started"]
    verified = [event for event in events if event.kind == "verified"]
    assert len(started) > 2
    assert [event.event_id for event in verified] == [event.event_id for event in started]
    assert [event.action for event in verified] == [event.action for event in started]
    assert sum(kinds.get("verified", 0) for kinds in summary["events"].values()) == len(started)
    assert f'cidc_verifications_total{{answer="no"}} {len(started)}.0' in text
    assert "cidc_verifications_waiting 0.0" in text
    assert f"are sent to {endpoint.address} (model vlm)" in caplog.text
    small_THWC = small_frames(recording, tiny_weights)
    advantages = []
    for turn, request in enumerate(endpoint.requests):
        assert request.question == f"{started[turn].action}?"
        newest = 32 + 4 * (6 * turn + 4) - 1  # of the clip with which the action started
        near = [
            errors(
                request.pictures(),
                small_THWC[[newest - 31 + shift, newest - 15 + shift, newest + shift]],
            )
            for shift in (0, -4, -1, 1)
        ]
        assert near[0] < 4
        assert near[0] == min(near)
        advantages.append(near[1] - near[0])
    assert max(advantages) > 1  # other frames would have been noticed


def errors(pictures: list[NDArray[np.uint8]], frames_NHWC: NDArray[np.uint8]) -> float:
    """The mean difference in grey levels."""
    return float(np.abs(np.stack(pictures).astype(int) - frames_NHWC).mean())


@pytest.mark.slow
def test_an_endpoint_that_hangs_delays_neither_events_nor_the_end(
    recording: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    with ChatEndpoint() as endpoint:
        endpoint.behave = endpoint.hang
        settings: dict[str, object] = {"drain_seconds": 0.2, "max_waiting": 2}
        config = configured(recording, tiny_weights, tmp_path, endpoint.address, **settings)
        looped = {"id": "b", "url": str(recording), "loop": True, "pace": "realtime"}
        cameras = [*config.cameras, type(config.cameras[0]).model_validate(looped)]
        config = config.model_copy(update={"cameras": tuple(cameras)})
        stop = threading.Event()
        with Pipeline(config, open_recogniser=scripted()) as pipeline:
            running = threading.Thread(target=pipeline.run, args=(stop,))
            running.start()
            # All actions of the recording are stored while the first look still hangs.
            assert until(lambda: sum_of(tmp_path, "started") >= 3, 60)
            assert until(lambda: len(endpoint.requests) == 1)
            assert not endpoint.released.is_set()
            stop.set()
            started_at = time.monotonic()
            running.join(30)
            assert not running.is_alive()
            assert time.monotonic() - started_at < 8
        failures = pipeline.metrics.by_label(pipeline.metrics.verify.failures, "reason")
    assert sum_of(tmp_path, "verified") == 0
    assert sum_of(tmp_path, "started") == sum_of(tmp_path, "ended")
    assert failures["shutdown"] >= 1
    assert sum(failures.values()) == sum_of(tmp_path, "started")


def sum_of(folder: Path, kind: str) -> int:
    """Number of stored events of this kind."""
    return sum(each.event.kind == kind for each in read_events(folder / "outbox.db"))


@pytest.mark.slow
def test_only_the_region_of_a_camera_is_sent(
    recording: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    with ChatEndpoint(say("yes")) as endpoint:
        config = configured(recording, tiny_weights, tmp_path, endpoint.address)
        camera = {
            "id": "a",
            "url": str(recording),
            "pace": "fast",
            "regions": [{"id": "left", "right": 0.5}],
        }
        masked = config_for(
            tiny_weights,
            tmp_path,
            {},
            cameras=[camera],
            events=EVENTS,
            verify=config.verify,
        )
        with Pipeline(masked, open_recogniser=scripted()) as pipeline:
            pipeline.run(threading.Event())
    assert endpoint.requests
    width = sampled_frames(recording, 15.0, short_side=96)[0].shape[1]
    small = small_frames(recording, tiny_weights, slice(0, width // 2))
    for request in endpoint.requests:
        for picture in request.pictures():
            assert min(errors([picture], frame[None]) for frame in small) < 4
