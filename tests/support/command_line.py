"""The command line of `stream` as a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests import ROOT


def stream(*arguments: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `python -m stream` with these arguments to its end."""
    command = [sys.executable, "-m", "stream", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def write_config(folder: Path, weights: Path, urls: dict[str, Path], **sections: object) -> Path:
    """Write a configuration that reads these files as fast as possible; returns its path."""
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": str(path), "pace": "fast"} for name, path in urls.items()],
        "infer": {"weights": str(weights)},
        "events": {"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}},
        "outbox": {"path": str(folder / "outbox.db")},
        "http": {"port": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(fields | sections))
    return path


def assert_one_error(done: subprocess.CompletedProcess[str], says: str) -> None:
    """Fail unless the command ended with status 2 and one clear message, its last line."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("error:") for line in lines) == 1
    assert lines[-1].startswith("error:")
