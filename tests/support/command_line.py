"""The command line of `stream` as a real process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from pathlib import Path

import yaml

from tests import ROOT


def command(*arguments: str | Path) -> list[str]:
    """Return the command line `python -m stream` with these arguments."""
    return [sys.executable, "-m", "stream", *map(str, arguments)]


def overrides(*settings: str) -> list[str]:
    """Return the options that override settings, each `section.key=value`."""
    return [part for setting in settings for part in ("--set", setting)]


def stream(*arguments: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run `python -m stream` with these arguments to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def exposition(port: int) -> str:
    """Read the metrics of a running process; empty while it does not answer."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer,
    ):
        return str(answer.read().decode())
    return ""


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
