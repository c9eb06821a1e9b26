"""Servers of RTMP and SRT, run by the FFmpeg program of the package imageio-ffmpeg."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs import MediaError
from stream.ingest.config import SourceConfig
from stream.ingest.ffmpeg_program import find_program
from tests.support.waiting import until


def missing_ffmpeg() -> str | None:
    """Say why these servers cannot be started here; None if they can."""
    try:
        find_program(SourceConfig())
    except MediaError as error:
        return str(error)
    return None


@contextlib.contextmanager
def served(
    inputs: Sequence[object], container: str, url: str, port: int, *outputs: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Send what `inputs` name to the one client that asks at `url`, from a listening port on."""
    command = [find_program(SourceConfig()), "-nostdin", "-loglevel", "error", "-re", *inputs]
    command += [*outputs, "-f", container, url]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: _is_open(port)), "the server does not listen"
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def srt_server(
    video: Path, port: int, *, passphrase: str = "", outputs: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Send a video again and again, over SRT."""
    url = f"srt://127.0.0.1:{port}?mode=listener"
    url += f"&passphrase={passphrase}" if passphrase else ""
    inputs = ("-stream_loop", -1, "-i", video)
    with served(inputs, "mpegts", url, port, "-c", "copy", *outputs) as process:
        yield process


@contextlib.contextmanager
def silent_srt_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Accept a client over SRT, send it one frame, and then nothing for minutes."""
    url = f"srt://127.0.0.1:{port}?mode=listener"
    inputs = ("-f", "lavfi", "-i", "testsrc=size=128x96:rate=0.01")
    with served(inputs, "mpegts", url, port, "-c:v", "mpeg2video", "-r", "25") as process:
        yield process


@contextlib.contextmanager
def rtmp_server(video: Path, port: int, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Send a video again and again, over RTMP."""
    inputs = ("-stream_loop", -1, "-i", video)
    url = f"rtmp://127.0.0.1:{port}/live/{name}"
    with served(inputs, "flv", url, port, "-c", "copy", "-listen", "1") as process:
        yield process


def _is_open(port: int) -> bool:
    """Whether a socket of this machine is bound to a port; nothing connects to it."""
    tables = [Path(f"/proc/net/{kind}").read_text() for kind in ("tcp", "udp")]
    lines = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") for line in lines)
