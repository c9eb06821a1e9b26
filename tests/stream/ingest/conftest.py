"""Fixtures of the tests of camera streams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream.ingest.decoder_pool import DecoderPool
from tests.support.chaos import mpegts
from tests.support.fake_nvc import FakeNvc
from tests.support.nvdec_cameras import pool_on_cpu


@pytest.fixture(scope="module")
def square() -> bytes:
    """Four seconds of MPEG-TS."""
    return mpegts([(320, 240)], fps=15, seconds_each=4.0)


@pytest.fixture
def nvc() -> FakeNvc:
    """The library of the GPU's decoders, decoding by PyAV."""
    return FakeNvc()


@pytest.fixture
def pool(nvc: FakeNvc) -> Iterator[DecoderPool]:
    """One thread of decoders; at the end all of them must be closed."""
    with pool_on_cpu(nvc, lanes=1) as opened:
        yield opened
