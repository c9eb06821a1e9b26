"""Fixtures of the tests of the pipeline and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import write_config


@pytest.fixture
def config(scenes: Path, tiny_weights: Path, tmp_path: Path) -> Path:
    """A configuration file that reads two recordings."""
    return write_config(
        tmp_path,
        tiny_weights,
        {"a": scenes / "recordings/camera-1.mp4", "b": scenes / "recordings/camera-2.mp4"},
    )
