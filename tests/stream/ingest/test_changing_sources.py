"""Cameras whose size, codec or rotation changes while they run."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest

from stream.ingest.config import ClipConfig
from stream.types import BreakReason, DecodedFrame, SampledFrame, StreamBreak
from tests.support.chaos import TcpCamera, mpegts, streamed
from tests.support.live_cameras import seen
from tests.support.waiting import until


@pytest.mark.slow
def test_a_new_size_or_codec_starts_a_new_clip(square: bytes) -> None:
    with (
        TcpCamera(
            streamed(mpegts([(320, 240), (640, 480)], fps=15, seconds_each=2.0), seconds=3.0)
        ) as camera,
        seen(camera.url) as watched,
    ):
        assert until(lambda: "size" in watched.breaks), watched.states
    other = io.BytesIO()
    with av.open(other, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width = 352
        stream.height = 288
        stream.pix_fmt = "yuv420p"
        for number in range(75):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((288, 352, 3), number, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(stream.encode())
    with (
        TcpCamera(streamed(square + other.getvalue() * 8, seconds=28.0)) as camera,
        seen(camera.url) as watched,
    ):
        assert until(lambda: len(watched.frames) > 20)
        # FFmpeg may go on or give up: either way the change is noticed or the camera is reopened,
        # long before the stream ends, and no clip spans the change.
        assert until(lambda: "size" in watched.breaks or camera.connections > 1, 20), (
            watched.states,
            watched.breaks,
        )
        assert until(lambda: isinstance(watched.items[-1], SampledFrame))
    for earlier, later in itertools.pairwise(watched.items):
        if isinstance(earlier, SampledFrame) and isinstance(later, SampledFrame):
            assert earlier.frame_HWC.shape == later.frame_HWC.shape
            assert 0 < later.pts_seconds - earlier.pts_seconds < 1


def test_a_new_rotation_starts_a_new_clip() -> None:
    from stream.ingest.sampler import Sampler

    sampler = Sampler("a", ClipConfig(), lambda native: np.zeros((4, 4, 3), np.uint8))
    first = DecodedFrame(None, 0.0, 0.0, 0.0, 640, 480, turns=0)
    turned = DecodedFrame(None, 1 / 15, 0.0, 0.0, 640, 480, turns=2)
    assert [type(item) for item in sampler.push(first)] == [SampledFrame]
    assert sampler.push(turned)[0] == StreamBreak("a", BreakReason.SIZE, 0)
