"""A library that notes what a process asks for, compiled for the tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["network_hooks"]


def network_hooks(folder: Path) -> Path:
    """Compile the library for LD_PRELOAD; skip the test without a compiler."""
    compiler = shutil.which("cc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "hooks.so"
    source = Path(__file__).with_name("network.c")
    language = ["-x", "c"]
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, *language, source, "-ldl"], check=True
    )
    return library
