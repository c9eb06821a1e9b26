"""Cameras over SRT, against FFmpeg's own server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from configs import MediaError
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.ffmpeg_program import find_program, program_problems
from stream.ingest.srt import explain_output, open_srt
from tests import ROOT
from tests.support.broker import free_port
from tests.support.ffmpeg_servers import missing_ffmpeg, silent_srt_server, srt_server
from tests.support.live_cameras import seen
from tests.support.waiting import until

PASSPHRASE = "correct horse's"
CONFIG = SourceConfig(
    open_timeout_seconds=4.0,
    read_timeout_seconds=1.0,
    backoff_initial_seconds=0.05,
    backoff_max_seconds=0.1,
)
# Opens an SRT address, says so, and holds it open.
HOLDER = """
import sys, threading
from stream.ingest.config import SourceConfig
from stream.ingest.srt import open_srt
def say():
    print("started", flush=True)
threading.Timer(0.5, say).start()
open_srt(sys.argv[1], SourceConfig(open_timeout_seconds=60), 60)
"""


def readers_of(pid: int) -> list[int]:
    """The programs that read SRT for a process; servers of these tests are its children, too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"pipe:1" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


@pytest.mark.rtsp
@pytest.mark.slow
def test_the_frames_are_those_of_the_file_and_nobody_sees_the_passphrase(
    streamed_video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with seen(str(streamed_video), pace="fast") as of_file:
        assert until(lambda: of_file.status.state == "ended")
    port = free_port()
    with srt_server(streamed_video, port, passphrase=PASSPHRASE):
        for option, says in (
            ("?passphrase=wrong-horse", "wrong passphrase"),
            ("", "the sender wants a passphrase"),
        ):
            with seen(f"srt://127.0.0.1:{port}{option}", CONFIG) as watched:
                assert until(lambda w=watched, s=says: s in w.story), watched.story
                assert not watched.frames
        url = f"srt://127.0.0.1:{port}?passphrase={quote(PASSPHRASE)}&latency=60&streamid=a%27b"
        with seen(url, CONFIG) as watched:
            assert until(lambda: len(watched.frames) >= 40), watched.story
            [reader] = readers_of(os.getpid())
            shown = [Path(f"/proc/{reader}/{name}").read_bytes() for name in ("cmdline", "environ")]
            shown += [caplog.text.encode(), watched.story.encode()]
            assert not any(b"horse" in text for text in shown)
    assert not Path(f"/proc/{reader}").exists()
    for got, wanted in zip(watched.frames[:40], of_file.frames[:40], strict=True):
        assert np.array_equal(got.frame_HWC, wanted.frame_HWC)
        assert got.pts_seconds == pytest.approx(wanted.pts_seconds, abs=0.002)


@pytest.mark.rtsp
@pytest.mark.slow
def test_a_sender_that_goes_away_and_returns_is_read_again(streamed_video: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as opened:
        with srt_server(streamed_video, port):
            watched = opened.enter_context(seen(f"srt://127.0.0.1:{port}", CONFIG))
            assert until(lambda: len(watched.frames) > 5), watched.story
        assert until(lambda: watched.status.state in ("stalled", "offline")), watched.story
        before = len(watched.frames)
        with srt_server(streamed_video, port):
            assert until(lambda: len(watched.frames) > before + 5), watched.story
    # It was killed, and so could not say goodbye.
    assert "stalled silent for 1 s" in watched.story
    assert watched.breaks[0] == "stalled"
    assert not readers_of(os.getpid())


@pytest.mark.rtsp
@pytest.mark.slow
def test_time_stamps_that_wrap_do_not_interrupt_a_stream(streamed_video: Path) -> None:
    port = free_port()
    # MPEG-TS counts 33 bits of 1/90000 s, which is 95443.7 s.
    with (
        srt_server(streamed_video, port, outputs=("-output_ts_offset", "95443.1")),
        seen(f"srt://127.0.0.1:{port}", CONFIG) as watched,
    ):
        assert until(lambda: len(watched.frames) >= 25), watched.story
    times = np.array([frame.pts_seconds for frame in watched.frames[:25]])
    assert np.diff(times) == pytest.approx(np.full(24, 1 / 15), abs=0.002)
    assert not [each for each in watched.breaks if each != "ended"]


@pytest.mark.rtsp
@pytest.mark.slow
def test_a_sender_that_says_nothing_costs_the_time_to_open(streamed_video: Path) -> None:
    port = free_port()
    quick = CONFIG.model_copy(update={"open_timeout_seconds": 1.0})
    with silent_srt_server(port), seen(f"srt://127.0.0.1:{port}", quick) as watched:
        assert until(lambda: "no answer within 1 s" in watched.story), watched.story
    assert not readers_of(os.getpid())


@pytest.mark.rtsp
@pytest.mark.slow
def test_the_program_ends_with_its_reader_however_that_ends(streamed_video: Path) -> None:
    port = free_port()
    with silent_srt_server(port):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, f"srt://127.0.0.1:{port}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert until(lambda: bool(readers_of(holder.pid)))
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"started\n"
            [reader] = readers_of(holder.pid)
        finally:
            holder.kill()
            holder.communicate()
        assert until(lambda: not Path(f"/proc/{reader}").exists(), 2.0)


@pytest.mark.parametrize(
    ("messages", "has_passphrase", "says"),
    [
        ("rejecting per reception of a rejection HS response: ERROR:BADSECRET", True, "wrong pass"),
        ("response: ERROR:UNSECURE", True, "does not encrypt; remove"),
        ("response: ERROR:UNSECURE", False, "wants a passphrase; add"),
        ("a rejection HS response: ERROR:PEER\nx", False, "refused the connection (ERROR:PEER);"),
        ("Stream map '0:v' matches no streams.", False, "no video stream"),
        ("pipe:0: Invalid data found when processing input", False, "not MPEG-TS over SRT"),
        ("srt://h:1?x: Protocol not found", False, "was built without SRT"),
        ("[srt] Connection to srt://h:1?passphrase=abc failed", False, "nothing answered"),
        ("something else, passphrase=abc", False, "closed the connection before any video"),
    ],
)
def test_the_reason_is_said_without_the_messages(
    messages: str, has_passphrase: bool, says: str
) -> None:
    reason = explain_output(messages, has_passphrase=has_passphrase)
    assert says in reason
    assert "abc" not in reason


def test_only_the_program_of_the_extra_or_of_the_setting_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "ffmpeg"
    planted.write_text("#!/bin/sh\ntouch planted\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(planted))
    camera = CameraConfig(id="a", url="srt://127.0.0.1:9")
    if missing_ffmpeg() is None:
        assert find_program(SourceConfig()).parent.name == "binaries"
        assert program_problems(SourceConfig(), [camera]) == []
    named = SourceConfig(ffmpeg=planted)
    assert find_program(named) == planted
    monkeypatch.setattr("stream.ingest.ffmpeg_program._PACKAGE", "no_such_package_here")
    [problem] = program_problems(SourceConfig(), [camera])
    assert "camera a: SRT needs an FFmpeg program; install the extra srt" in problem
    assert program_problems(SourceConfig(), [camera.model_copy(update={"source": named})]) == []
    assert "there is no program" in str(SourceConfig(ffmpeg=tmp_path / "none").problem())
    assert "must be a whole path" in str(SourceConfig(ffmpeg=Path("ffmpeg")).problem())


def test_a_program_without_srt_or_that_cannot_start_is_named(tmp_path: Path) -> None:
    config = SourceConfig(ffmpeg=tmp_path / "none", open_timeout_seconds=5)
    with pytest.raises(MediaError, match="closed the connection before any video came"):
        open_srt("srt://127.0.0.1:9", config, 1.0)
