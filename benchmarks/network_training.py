"""Measure the time and memory of a training step; compare its time with a public network.

`python -m benchmarks.network --training --memory` prints both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.timing import alternate
from model import ModelConfig, build_model
from model.network import to_channels_last
from tests.support import public_nets

__all__ = ["print_memory", "print_memory_of_step", "print_training"]

_LAST = torch.channels_last_3d


def print_training() -> None:
    """Print the time of a training step of our network and of the public network."""
    table = Table(
        "network",
        "batch",
        "step ms",
        "clips/s",
        "ratio",
        title="Training step, bfloat16 autocast: forward, loss, backward",
    )
    theirs, _ = public_nets.build("GluonCV I3D")
    ours = build_model(ModelConfig(backbone="i3d", cidc=None, dropout=0.5))
    cidc = build_model(ModelConfig(backbone="i3d", dropout=0.5))
    networks = {
        "GluonCV I3D": theirs.to(memory_format=_LAST),
        "I3D": to_channels_last(ours),
        "CIDC on I3D": to_channels_last(cidc),
    }
    clips = torch.randn(4, 3, 32, 224, 224).contiguous(memory_format=_LAST)
    labels = torch.randint(0, 400, (4,))
    steps = [_step(network.train(), clips, labels) for network in networks.values()]
    timed = alternate(steps, 5)
    for name, times in zip(networks, timed, strict=True):
        seconds = statistics.median(times)
        table.add_row(
            name,
            "4",
            f"{1e3 * seconds:.0f}",
            f"{4 / seconds:.2f}",
            f"{statistics.median(timed[0]) / seconds:.2f}",
        )
    Console().print(table)


def print_memory() -> None:
    """Print the peak memory of a training step, measured in a separate process per row."""
    table = Table(
        "activations",
        "peak above the weights, MiB",
        title="Memory of a training step, CIDC on I3D, batch 4, bfloat16 autocast",
    )
    for what in ("kept", "recomputed"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.network", "--memory-of", what],
            capture_output=True,
            text=True,
            check=True,
        )
        table.add_row(what, done.stdout.strip())
    Console().print(table)


def print_memory_of_step(*, recompute: bool) -> int:
    """Print the peak memory of one training step above the weights, in MiB."""
    network = build_model(ModelConfig(backbone="i3d"))
    to_channels_last(network)
    network.backbone.checkpointing = recompute
    clips = torch.randn(4, 3, 32, 224, 224).contiguous(memory_format=_LAST)
    labels = torch.randint(0, 400, (4,))
    before = _resident_mib("VmHWM")
    _step(network.train(), clips, labels)()
    print(f"{_resident_mib('VmHWM') - before:.0f}")
    return 0


def _step(network: nn.Module, clips: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits_BK = network(clips)
        loss = nn.functional.cross_entropy(logits_BK.float(), labels)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return run


def _resident_mib(field: str) -> float:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))
