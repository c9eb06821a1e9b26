"""Make docs/images/live.svg: the live table of a short, real run on generated scenes.

Run `python -m scripts.make_picture` from the project's folder. It writes four recordings of
generated scenes, analyses them in real time with the settings of `configs/demo.yaml`, and keeps the
table from the moment when the largest number of cameras showed an action.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from configs import example_path, load_config
from stream.config import StreamConfig
from stream.console.live_table import LiveTable
from stream.console.printer import Printer
from stream.pipeline import Pipeline

__all__ = ["main", "without_outside_fonts"]

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "live.svg"
# size of the terminal, in characters
_WIDTH = 92
_HEIGHT = 40
_MINUTES = 0.33
# Seconds of video before which the list of events is not full.
_MIN_SECONDS = 10.0
_FRAMES_PER_SECOND = 12  # frame rate of the slowest recording


class Recorder:
    """Keeps the table from the moment when the largest number of cameras showed an action."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.svg = ""
        self._pipeline = pipeline
        self._best = 0
        terminal = Console(file=io.StringIO(), force_terminal=True, width=_WIDTH, height=_HEIGHT)
        self._table = LiveTable(pipeline, terminal, Printer())
        pipeline.subscribe(lambda announcement: self._table.take(announcement.events))

    def tick(self) -> None:
        """Draw the table; keep it if it shows at least as many actions as the kept one."""
        cameras = self._pipeline.cameras()
        running = [camera for camera in cameras if camera.state == "running"]
        decoded = self._pipeline.metrics.total(self._pipeline.metrics.decoded)
        busy = sum(bool(self._pipeline.active(camera.camera_id)) for camera in cameras)
        is_late_enough = decoded >= _MIN_SECONDS * _FRAMES_PER_SECOND * len(cameras)
        if is_late_enough and len(running) == len(cameras) and busy >= self._best:
            self._best = busy
            self.svg = self._drawn()

    def _drawn(self) -> str:
        console = Console(
            file=io.StringIO(), record=True, force_terminal=True, width=_WIDTH, height=_HEIGHT
        )
        console.print(self._table.draw())
        return without_outside_fonts(
            console.export_svg(title="python -m stream run --config cameras.yaml", unique_id="live")
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline once and write the picture; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_picture")
    parser.add_argument("--seed", type=int, default=2024, help="random seed of the recordings")
    parser.add_argument("--out", type=Path, default=PICTURE, help="SVG file to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        svg = _recorded(Path(folder), options.seed)
    if not svg:
        print(
            "error: at no moment were all cameras running; try again on a less busy machine",
            file=sys.stderr,
        )
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(svg, encoding="utf-8")
    print(f"wrote {options.out}")
    return 0


def without_outside_fonts(svg: str) -> str:
    """Return the SVG with a local font; the template of rich loads one from a server."""
    svg = re.sub(r"@font-face\s*{.*?}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", "font-family: monospace")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _recorded(folder: Path, seed: int) -> str:
    _film(folder, seed)
    with Pipeline(_config(folder)) as pipeline:
        recorder = Recorder(pipeline)
        pipeline.run(threading.Event(), on_tick=recorder.tick)
    return recorder.svg


def _film(folder: Path, seed: int) -> None:
    command = [
        sys.executable,
        "-m",
        "train",
        "scenes",
        "--out",
        folder,
        "--seed",
        seed,
        "--clips",
        0,
        "--recordings",
        4,
    ]
    subprocess.run([*map(str, command), "--minutes", str(_MINUTES)], cwd=ROOT, check=True)


def _config(folder: Path) -> StreamConfig:
    """Return the demo's settings with the recordings of this run."""
    demo = load_config(example_path("demo.yaml"), StreamConfig)
    cameras = [
        {"id": camera.id, "url": str(folder / "recordings" / Path(camera.url).name)}
        for camera in demo.cameras
    ]
    sections = {
        "cameras": cameras,
        "outbox": {"path": folder / "outbox.db"},
        "http": {"enabled": False},
    }
    return StreamConfig.model_validate(demo.model_dump() | sections)


if __name__ == "__main__":
    sys.exit(main())
