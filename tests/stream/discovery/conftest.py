"""Fixtures of the tests of discovery."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Put back the levels of loggers that a discovery sets for its process."""
    names = ("onvif", "zeep", "aiohttp", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
