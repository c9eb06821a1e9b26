"""Write the example of docs/how-to/tracing.md: `python -m scripts.example_trace`.

The script films a scene of the demo, runs the pipeline on it as on a live camera, with a Kafka
broker and a collector of this machine, and writes the trace of the first event as a text tree.
`--print` prints the tree and leaves the page as it is.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
from pathlib import Path

import numpy as np

from stream.config import StreamConfig
from stream.pipeline import Pipeline
from tests.support.broker import running_broker
from tests.support.collector import Collector, SeenSpan, running_collector
from train.synthetic.film import Look, film
from train.synthetic.script import recording_script

__all__ = ["main", "tree"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "tracing.md"
_BLOCK = re.compile(r"<!-- example trace -->\n.*?<!-- end -->", re.DOTALL)
_LOOK = Look(25.0, False, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 3.0, 26, "veryfast", 2.0, 0)
_SECONDS = 24.0
_SEED = 4


def main() -> None:
    """Run the pipeline and write the page, or print the tree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--print", action="store_true", help="print the tree only")
    options = parser.parse_args()
    with running_collector() as collector, tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), collector)
    roots = sorted(collector.roots(), key=lambda span: span.started)
    started = next(root for root in roots if root.name == "event started")
    text = tree(started, collector)
    if options.print:
        print(text)
        return
    block = f"<!-- example trace -->\n```text\n{text}\n```\n<!-- end -->"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda _: block, page), encoding="utf-8")


def tree(root: SeenSpan, collector: Collector) -> str:
    """Return a trace as text: each span with its start after the root's, and how long it took."""
    children = sorted(collector.children(root).values(), key=lambda span: span.started)
    lines = [f"trace {root.trace_id}", _line("", root, root)]
    for span in children:
        lines.append(_line("└─ " if span is children[-1] else "├─ ", span, root))
    shown = ("cidc.camera", "cidc.action", "cidc.kind", "cidc.model", "cidc.device")
    lines += ["", *(f"{name}: {root.attributes[name]}" for name in shown)]
    return "\n".join(lines)


def _line(branch: str, span: SeenSpan, root: SeenSpan) -> str:
    at, lasted = (span.started - root.started) / 1e6, (span.ended - span.started) / 1e6
    return f"{branch + span.name:<22}{at:>9.1f} ms {lasted:>9.1f} ms"


def _run(folder: Path, collector: Collector) -> None:
    video = folder / "scene.mp4"
    film(
        recording_script(_SECONDS, np.random.default_rng(_SEED)),
        video,
        np.random.default_rng(_SEED),
        _LOOK,
    )
    with running_broker() as bootstrap:
        config = StreamConfig.model_validate(
            {
                "cameras": [{"id": "front-door", "url": str(video), "pace": "realtime"}],
                "infer": {"device": "cpu"},
                "outbox": {"path": folder / "outbox.db"},
                "kafka": {"bootstrap": [bootstrap], "topic": "action-events"},
                "http": {"enabled": False},
                "tracing": {"endpoint": collector.endpoint},
            }
        )
        with Pipeline(config) as pipeline:
            pipeline.run(threading.Event())


if __name__ == "__main__":
    main()
