"""Live cameras decoded by DALI on the CPU: over RTSP and HTTP, many at once, and their ends."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from model.media.gop_decoder import GopDecoder
from stream.ingest.decode_stage import DecodeStage
from tests.support.coded_video import (
    ON_CPU,
    SUFFIXES,
    coded_packets,
    decoding_on_cpu,
    picture,
    write_video,
)
from tests.support.live_cameras import QUICK, Seen, seen
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until
from tests.support.web import web_server

DALI = QUICK.model_copy(update={"decoder": "dali"})


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodeStage]:
    with decoding_on_cpu() as stage:
        yield stage


def shown_numbers(watched: Seen, numbers: int) -> list[int]:
    """Find which picture each frame shows, and check that it is that picture."""
    known = np.stack([picture(number, 160, 128) for number in range(numbers)]).astype(int)
    found = []
    for frame in watched.frames:
        distances = np.abs(known - frame.frame_HWC).mean(axis=(1, 2, 3))
        found.append(int(distances.argmin()))
        assert distances.min() < 8
    return found


def assert_even(watched: Seen, numbers: int) -> None:
    """Times are those of the grid, and each frame shows the picture after the one before."""
    times = [frame.pts_seconds for frame in watched.frames]
    assert np.allclose(np.diff(times), 1 / 15, atol=1e-6)
    steps = np.diff(shown_numbers(watched, numbers)) % numbers
    # Times over the network are rounded, so that now and then a frame is taken twice.
    assert set(steps) <= {0, 1, 2}
    assert np.mean(steps == 1) > 0.9


@pytest.mark.rtsp
@pytest.mark.parametrize("codec", ["libvpx-vp9", "mjpeg"])
def test_a_camera_over_rtsp_is_decoded_by_dali(
    tmp_path: Path, decoding: DecodeStage, codec: str
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    path = write_video(tmp_path / f"a{SUFFIXES[codec]}", codec, range(60))
    with (
        RtspServer({"/a": path}) as server,
        seen(server.url("/a"), DALI, decoding=decoding) as watched,
    ):
        assert until(lambda: len(watched.frames) > 40, 30), watched.states
        assert watched.status.state == "running"
        assert 10 < watched.status.fps() < 20
    assert set(watched.metrics.by_label(watched.metrics.gops, "decoder")) == {"dali"}
    assert not watched.breaks
    assert_even(watched, 60)
    # Arrivals are those of the packets: spread over time, not at the end of the group.
    arrivals = [frame.arrived_monotonic for frame in watched.frames]
    assert np.max(np.diff(arrivals)) < 0.5
