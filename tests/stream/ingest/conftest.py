"""Fixtures of the tests of camera streams."""

from __future__ import annotations

import pytest

from tests.support.chaos import mpegts


@pytest.fixture(scope="module")
def square() -> bytes:
    """Four seconds of MPEG-TS."""
    return mpegts([(320, 240)], fps=15, seconds_each=4.0)
