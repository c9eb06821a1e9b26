"""Cameras over RTSP, against a real server: logins, TLS and the camera's clock."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

import stream.ingest.source
from stream.ingest.config import SourceConfig
from stream.ingest.connection import wall_seconds
from tests.support.broker import Proxy, certificate, free_port
from tests.support.coded_video import write_video
from tests.support.live_cameras import QUICK, seen
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until


@pytest.mark.rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_needs_the_right_password(scenes: Path, transport: str) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    with RtspServer({"/a": scenes / "clips/fall/0000.mp4"}, login="admin:hun@ter/2") as server:
        for user, gets_in in (("admin:hun%40ter%2F2@", True), ("admin:wrong@", False), ("", False)):
            with seen(f"rtsp://{user}127.0.0.1:{server.port}/a", transport=transport) as watched:
                if gets_in:
                    assert until(lambda: len(watched.frames) > 5), watched.states
                else:
                    assert until(lambda: any("401" in detail for _, detail in watched.states)), (
                        watched.states
                    )
                    assert not watched.frames


@pytest.mark.rtsp
def test_rtsps_checks_the_certificate_of_the_camera_when_asked_to(
    scenes: Path, tmp_path: Path
) -> None:
    made = certificate(tmp_path)
    if problem := missing_rtsp() or (None if made else "no openssl: apt-get install openssl"):
        pytest.skip(problem)
    assert made is not None
    context, authority = made
    with RtspServer({"/a": scenes / "clips/fall/0000.mp4"}) as server:
        proxy = Proxy(server.port, free_port(), tls=context)
        for settings, is_trusted in (
            ({}, True),
            ({"tls_verify": True, "tls_ca_file": str(authority)}, True),
            ({"tls_verify": True}, False),
        ):
            with seen(
                f"rtsps://localhost:{proxy.port}/a", QUICK.model_copy(update=settings)
            ) as watched:
                if is_trusted:
                    assert until(lambda: len(watched.frames) > 5), watched.states
                else:
                    reconnects = watched.metrics.reconnects
                    assert until(
                        lambda seen=watched, count=reconnects: seen.metrics.total(count) > 1
                    ), watched.states
                    assert "offline" in [state for state, _ in watched.states]
                    assert not watched.frames
        proxy.cut()


@pytest.mark.slow
@pytest.mark.rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_are_dated_by_the_camera(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    real = stream.ingest.source.wall_seconds
    told = []

    def noted(packet: Any, arrived: float, max_difference: float) -> float:
        told.append(packet.has_sidedata("prft"))
        return real(packet, arrived, max_difference)

    monkeypatch.setattr(stream.ingest.source, "wall_seconds", noted)
    video = write_video(tmp_path / "live.mp4", "libx264", range(600), bf="0")
    with (
        RtspServer({"/live": video}) as server,
        seen(server.url("/live"), transport=transport) as watched,
    ):

        def spread() -> float:
            offsets = [frame.wall_seconds - frame.pts_seconds for frame in watched.frames[-30:]]
            return max(offsets) - min(offsets) if len(offsets) == 30 else math.inf

        # From the first RTCP report on, frames are as far apart by the camera's clock as by their
        # presentation times, but for the grid.
        assert until(lambda: len(told) > 60 and all(told[-60:]) and spread() < 0.04, 30), (
            told[-60:],
            spread(),
            watched.states,
        )
        assert abs(watched.frames[-1].wall_seconds - time.time()) < 5


def test_a_wrong_clock_of_a_camera_is_ignored() -> None:
    class Packet:
        """A packet that says it was sent in 1970."""

        def has_sidedata(self, kind: str) -> bool:
            return kind == "prft"

        def get_sidedata(self, kind: str) -> bytes:
            return (5_000_000).to_bytes(8, "little") + bytes(8)

    believed = SourceConfig().camera_clock_seconds
    assert abs(wall_seconds(Packet(), time.monotonic(), believed) - time.time()) < 1
    assert wall_seconds(Packet(), time.monotonic(), 1e12) == 5.0
