"""Compare batches with and without CUDA graphs, by batch size.

    python -m benchmarks.graphs [--max-batch 32] [--depth 50] [--side 224] [--markdown FILE]

The network is CIDC on I3D with random weights, folded, in bfloat16. Clips are 32 frames. Graphs run
as in the live pipeline: batches are padded to 1, 2, 4, 8 and so on clips, copied into the graph's
input, and the logits are copied out. Logits are compared before the timing. Times include Python,
because saving it is the purpose of graphs. The two ways run in turns. It needs a CUDA device.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import take_turns
from model import CIDCConfig, ModelConfig, build_model
from model.device_streams import DeviceStream
from model.inference import Engine, GraphEngine, PyTorchEngine
from model.network import fold_for_inference

__all__ = ["Line", "as_markdown", "main"]

_TOLERANCE = 0.05
_CALLS = 5
HEADER = ("clips", "runs as", "eager ms (p20 - p80)", "graph ms (p20 - p80)", "eager / graph")


@dataclasses.dataclass(frozen=True)
class Line:
    """Seconds per batch of one size, both ways."""

    clips: int
    size: int
    eager: Sequence[float]
    graph: Sequence[float]

    def cells(self) -> list[str]:
        """Return the cells of the line as text."""
        ratio = statistics.median(self.eager) / statistics.median(self.graph)
        times = (_milliseconds(self.eager), _milliseconds(self.graph))
        return [str(self.clips), str(self.size), *times, f"{ratio:.2f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a result is wrong, 2 without a CUDA device, else 0."""
    options = _parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: CUDA graphs need a CUDA device, and PyTorch finds none", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0)
    shape_CTHW = (3, 32, options.side, options.side)
    torch.manual_seed(0)
    config = ModelConfig(backbone="i3d", depth=options.depth, cidc=CIDCConfig())
    network = fold_for_inference(build_model(config).eval(), torch.bfloat16).to(device)
    eager = PyTorchEngine(network)
    graphs = GraphEngine(network, shape_CTHW=shape_CTHW, dtype=torch.bfloat16, device=device)
    lines = []
    with DeviceStream(device):
        graphs.prepare(options.max_batch)
        for count in _counts(options.max_batch):
            clips = _clips(count, shape_CTHW, device)
            if not _agree(graphs(clips), eager(clips)):
                print(f"error: graphs give other logits for {count} clips", file=sys.stderr)
                return 1
            times = take_turns(
                [_call(eager, clips), _call(graphs, clips)], device, _CALLS, queued=False
            )
            lines.append(Line(count, graphs.plan(count).size, *times))
    title = (
        f"{torch.cuda.get_device_name(device)}: CIDC on I3D-{options.depth}, bfloat16,"
        f" 32 x {options.side} x {options.side}; graphs for"
        f" {', '.join(map(str, graphs.sizes)) or 'no'} clips take"
        f" {graphs.memory_bytes / (1 << 20):.0f} MiB"
    )
    text = as_markdown(lines, title)
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")
    return 0


def as_markdown(lines: Sequence[Line], title: str) -> str:
    """Return the table as Markdown."""
    rows = [f"| {' | '.join(line.cells())} |" for line in lines]
    head = [title, "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    return "\n".join([*head, *rows, ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--depth", type=int, choices=(18, 50), default=50)
    parser.add_argument("--side", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    return parser


def _counts(max_batch: int) -> list[int]:
    """Return powers of two, and the sizes just above them, which are padded most."""
    powers = [1 << power for power in range(max_batch.bit_length())]
    counts = {count for power in powers for count in (power, power + 1)} | {max_batch}
    return sorted(count for count in counts if count <= max_batch)


def _clips(count: int, shape_CTHW: tuple[int, int, int, int], device: torch.device) -> Tensor:
    drawn = torch.randn(count, *shape_CTHW, device=device, dtype=torch.bfloat16)
    return drawn.contiguous(memory_format=torch.channels_last_3d)


def _agree(found: Tensor, expected: Tensor) -> bool:
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    return bool(difference < _TOLERANCE)


def _call(engine: Engine, clips_BCTHW: Tensor) -> Callable[[int], object]:
    return lambda _: engine(clips_BCTHW)


def _milliseconds(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles([1e3 * value for value in seconds], n=10, method="inclusive")
    return f"{cuts[4]:.2f} ({cuts[1]:.2f} - {cuts[7]:.2f})"


if __name__ == "__main__":
    sys.exit(main())
