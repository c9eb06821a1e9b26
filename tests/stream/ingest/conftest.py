"""Fixtures of the tests of camera streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.ingest.decoder_pool import DecoderPool
from tests.support.chaos import mpegts
from tests.support.coded_video import write_video
from tests.support.fake_nvc import FakeNvc
from tests.support.ffmpeg_servers import missing_ffmpeg
from tests.support.nvdec_cameras import pool_on_cpu


@pytest.fixture(scope="module")
def square() -> bytes:
    """Four seconds of MPEG-TS."""
    return mpegts([(320, 240)], fps=15, seconds_each=4.0)


@pytest.fixture(scope="session")
def streamed_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds in which no two frames are alike, for servers of RTMP and SRT."""
    if problem := missing_ffmpeg():
        pytest.skip(problem)
    return write_video(tmp_path_factory.mktemp("streamed") / "a.mp4", "libx264", range(100), bf="0")


@pytest.fixture
def nvc() -> FakeNvc:
    """The library of the GPU's decoders, decoding by PyAV."""
    return FakeNvc()


@pytest.fixture
def pool(nvc: FakeNvc) -> Iterator[DecoderPool]:
    """One thread of decoders; at the end all of them must be closed."""
    with pool_on_cpu(nvc, lanes=1) as opened:
        yield opened
