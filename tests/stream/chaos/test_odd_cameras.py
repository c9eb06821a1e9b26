"""Twelve odd RTSP cameras at once: each keeps its events, or it is said why not.

The network is replaced by one that recognises bright video, so the true events are known. The
video of every camera is bright three times.
"""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stream.events.event import ActionEvent
from stream.pipeline import Pipeline
from tests.support.fleet import QUICK, check_stories, config_for, running
from tests.support.odd_rtsp import OddCamera, Oddity, coded_units
from tests.support.pipelines import recogniser_that
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.rtsp, pytest.mark.alone]

FPS = 25
SECONDS = 30
BRIGHT = ((4.0, 8.0), (14.0, 18.0), (22.0, 26.0))


def levels(fps: int) -> list[int]:
    """Grey levels of the video: bright while something happens."""
    times = [index / fps for index in range(SECONDS * fps)]
    return [200 if any(start <= t < end for start, end in BRIGHT) else 40 for t in times]


def is_bright(clips_BCTHW: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
    """Give one label to clips whose last half second is bright, and none to the others."""
    classes = real(clips_BCTHW[:1]).shape[1]
    bright_B = (clips_BCTHW[:, :, -8:].float().mean(dim=(1, 2, 3, 4)) > 0).float()
    probabilities_BK = torch.full((len(clips_BCTHW), classes), 1.0 / classes)
    label_K = torch.nn.functional.one_hot(torch.tensor(1), classes).float()
    return torch.where(bright_B[:, None] > 0, label_K, probabilities_BK)


def noise(index: int) -> bytes:
    """Bytes between two packets; they look like neither a packet nor an answer."""
    return random.Random(index).randbytes(40).replace(b"$", b"#").replace(b"\n", b"#")


def strange_packet(index: int) -> bytes:
    """A packet of a channel that nobody asked for."""
    return b"$\x09\x00\x28" + random.Random(index).randbytes(40)


def slow_ticks(index: int, seconds: float) -> int:
    return round((seconds + 0.04 * (index % 3 - 1)) * 90_000)


def test_twelve_odd_cameras_keep_their_events_or_say_why_not(
    tiny_weights: Path, tmp_path: Path
) -> None:
    normal = coded_units(levels(FPS), fps=FPS, g="25")
    long_gop = coded_units(levels(FPS), fps=FPS, g="500", keyint_min="500", sc_threshold="0")
    refresh = coded_units(levels(FPS), fps=FPS, g="50", **{"intra-refresh": "1"})
    slow = coded_units(levels(1), fps=1, g="1")
    dark = coded_units([40] * 50, fps=FPS, g="25")
    odd: dict[str, Oddity] = {
        "normal": Oddity(),
        "outliers": Oddity(ticks=lambda index, t: round((t + 3600 * (index % 50 == 49)) * 90_000)),
        "wrap": Oddity(ticks=lambda index, t: round(t * 90_000) + 2**32 - 9 * 90_000),
        "restarts": Oddity(ticks=lambda index, t: round((t + 100 if t < 11 else t - 11) * 90_000)),
        "sound-first": Oddity(tracks=("sound", "video")),
        "two-videos": Oddity(tracks=("video", "other")),
        "long-gop": Oddity(joins_at=lambda index: max(index, 1)),
        "refresh": Oddity(joins_at=lambda index: index + 20),
        "frozen": Oddity(sends=lambda connection, seconds: connection > 1 or seconds < 9),
        "noise": Oddity(garbage=lambda index: noise(index) if index % 20 == 0 else b""),
        "strange": Oddity(garbage=lambda index: strange_packet(index) if index % 9 == 0 else b""),
        "slow": Oddity(ticks=slow_ticks),
    }
    videos = {"long-gop": long_gop, "refresh": refresh, "slow": slow}
    cameras = {
        name: OddCamera(
            videos.get(name, normal), fps=1 if name == "slow" else FPS, oddity=oddity, other=dark
        )
        for name, oddity in odd.items()
    }
    config = config_for(
        tiny_weights,
        tmp_path,
        [{"id": name, "url": camera.url} for name, camera in cameras.items()],
        clip={"hop": 6, "blind_after_seconds": 12},
        source=QUICK | {"read_timeout_seconds": 3.0},
        events={"smoothing": 1, "default": {"enter": 0.8, "exit": 0.6}},
    )
    pipeline = Pipeline(config, open_recogniser=recogniser_that(is_bright))
    events: list[ActionEvent] = []
    pipeline.subscribe(lambda announcement: events.extend(announcement.events))
    blind: set[str] = set()
    with running(pipeline):
        for camera in cameras.values():
            camera.restart()  # now, so that nothing is lost while the network is loaded
        started_at = time.time()

        def is_over() -> bool:
            blind.update(each.camera_id for each in pipeline.cameras() if each.blind)
            return time.time() > started_at + SECONDS

        assert until(is_over, SECONDS + 30)
        described = {each["id"]: each for each in pipeline.manager.describe_all()}
    for camera in cameras.values():
        camera.close()
    check_stories(events)
    found = {
        name: [
            datetime.datetime.fromisoformat(event.started_at).timestamp() - started_at
            for event in events
            if event.camera_id == name and event.kind == "started"
        ]
        for name in odd
    }
    print({name: [round(t, 1) for t in times] for name, times in found.items()}, blind)
    for name, times in found.items():
        if name in ("long-gop", "noise"):
            continue
        assert len(times) == 3, (name, times, described[name])
        for found_at, (start, _) in zip(times, BRIGHT, strict=True):
            assert abs(found_at - start) < 3.0, (name, times)
    # Its first key frame comes after 20 seconds; until then there is nothing to decode.
    assert len(found["long-gop"]) == 1
    assert "long-gop" in blind
    # FFmpeg takes noise for an answer of the server and loses what follows.
    assert len(found["noise"]) == 3 or "noise" in blind
