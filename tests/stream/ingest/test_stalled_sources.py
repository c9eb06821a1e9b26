"""Cameras that send nothing new, and our own slowness, which must not be taken for it."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable

import av
import numpy as np
import pytest

from stream.ingest.decoder import Decoder
from stream.types import CodedPacket, DecodedFrame
from tests.support.chaos import TcpCamera, streamed
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


def spoiled(data: bytes) -> bytes:
    """Replace the frames after the first second by noise: packets come, but none decodes."""
    rng = np.random.default_rng(0)
    out = bytearray(data)
    for at in range(len(data) // 4 // 188 * 188, len(data), 188):
        out[at + 40 : at + 188] = rng.bytes(148)
    return bytes(out)


@pytest.mark.slow
def test_a_camera_whose_packets_give_no_frame_is_reopened(square: bytes) -> None:
    config = QUICK.model_copy(update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.5})
    with (
        TcpCamera(streamed(spoiled(square * 3), seconds=12.0)) as camera,
        seen(camera.url, config) as watched,
    ):
        assert until(lambda: camera.connections >= 2, 12), watched.states
    assert "stalled" in [state for state, _ in watched.states]


def frozen(
    self: Decoder,
    coded: CodedPacket,
    real: Callable[[Decoder, CodedPacket], list[DecodedFrame]] = Decoder.decode,
) -> list[DecodedFrame]:
    """Decode frames whose time stands still."""
    return [dataclasses.replace(frame, pts_seconds=7.0) for frame in real(self, coded)]


@pytest.mark.slow
@pytest.mark.parametrize("decode", [lambda self, coded: [], frozen], ids=["none", "frozen"])
def test_a_camera_is_reopened_when_the_decoder_gives_no_new_frame(
    square: bytes, monkeypatch: pytest.MonkeyPatch, decode: Callable[..., list[DecodedFrame]]
) -> None:
    monkeypatch.setattr(Decoder, "decode", decode)
    config = QUICK.model_copy(update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.5})
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url, config) as watched:
        assert until(lambda: camera.connections >= 2, 12), watched.states
    assert ("stalled", "packets come, but no new frame") in watched.states


@pytest.mark.slow
def test_a_camera_is_not_reopened_when_we_are_slow(square: bytes) -> None:
    config = QUICK.model_copy(
        update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 2.0, "max_queue_seconds": 0.5}
    )
    with (
        TcpCamera(streamed(square * 3, seconds=12.0)) as camera,
        seen(camera.url, config) as watched,
    ):
        assert until(lambda: len(watched.frames) > 5)
        # Meanwhile the queue overflows, and what comes next is its mark.
        watched.slow.set()
        time.sleep(4.0)  # longer than `read_timeout_seconds`: nothing must happen meanwhile
        watched.slow.clear()
        before = len(watched.frames)
        assert until(lambda: len(watched.frames) > before + 10)
        assert camera.connections == 1, watched.states
        assert "dropped" in watched.breaks


@pytest.mark.slow
def test_video_that_stops_while_sound_continues_is_noticed() -> None:
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=15)
        sound = container.add_stream("aac", rate=48000)
        video.width = 160
        video.height = 120
        video.pix_fmt = "yuv420p"
        video.options = {"tune": "zerolatency"}
        for number in range(15):
            container.mux(
                video.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((120, 160, 3), number, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(video.encode())
        for number in range(20 * 48000 // 1024):
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            samples.sample_rate = 48000
            samples.pts = number * 1024
            container.mux(sound.encode(samples))
    with TcpCamera(streamed(data.getvalue(), seconds=20.0)) as camera, seen(camera.url) as watched:
        assert until(lambda: camera.connections >= 2, 15), watched.states
    assert watched.frames
    assert any("no video for 1 s" in detail for _, detail in watched.states), watched.states


def test_a_slow_decoder_drops_groups_and_reports_it(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Decoder.decode

    def slow(self: Decoder, coded: CodedPacket) -> list[DecodedFrame]:
        time.sleep(0.15)  # slower than the frames come
        return real(self, coded)

    monkeypatch.setattr(Decoder, "decode", slow)
    config = QUICK.model_copy(update={"max_queue_seconds": 0.6})
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url, config) as watched:
        assert until(lambda: "dropped" in watched.breaks), watched.states
    assert watched.metrics.by_label(watched.metrics.dropped_packets, "reason")["decoder"] > 0
