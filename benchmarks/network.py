"""Compare the network's speed with public packages' networks that have the same weights.

    make public-nets && python -m benchmarks.network [--training] [--memory] [--quick]

All networks run in one process. Outputs are compared before the timing. Times are medians with the
20th and 80th percentile. Public networks run eagerly in channels-last memory, in float32 or
converted to bfloat16. They run first with default settings (`public`), then in turns with our
network under the memory settings of model/runtime.py (`tuned`). The table has the ratio of our
speed to both, and to the public network in float32. A star marks public networks with heads that
PyTorch cannot run in bfloat16. They run under autocast, which converts their weights at every call.
`convs` is the total time of our convolutions when each runs alone with warm caches, divided by the
time of the whole network. Other programs may use the machine, so compare ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.network_training import print_memory, print_memory_of_step, print_training
from benchmarks.timing import alternate
from model import ActionNetwork, CIDCConfig, ModelConfig, build_model
from model.backbones.conv import FoldedConv
from model.checkpoints.importers import import_state
from model.complexity import measure
from model.network import fold_for_inference
from model.runtime import keep_freed_memory
from tests.support import public_nets

__all__ = ["main"]

Run = Callable[[], Tensor]
_LAST = torch.channels_last_3d
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
_PEERS = (
    "GluonCV I3D",
    "GluonCV I3D-NL",
    "PyTorchVideo I3D",
    "PyTorchVideo C2D",
    "PyTorchVideo Slow",
    "PyTorchVideo SlowFast 8x8",
    "GluonCV SlowFast 4x16",
)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="measure only I3D at batch 1")
    parser.add_argument("--training", action="store_true", help="also measure a training step")
    parser.add_argument(
        "--memory", action="store_true", help="also measure the peak memory of a training step"
    )
    parser.add_argument("--memory-of", choices=("kept", "recomputed"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        keep_freed_memory()
        return print_memory_of_step(recompute=options.memory_of == "recomputed")
    if not public_nets.installed():
        print("error: the public networks are not installed; run make public-nets", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    _inference(options.quick)
    keep_freed_memory()
    if options.training:
        print_training()
    if options.memory:
        print_memory()
    return 0


@torch.inference_mode()
def _inference(quick: bool) -> None:
    table = Table(
        "network",
        "format",
        "batch",
        "public ms",
        "tuned ms",
        "ours ms (p20 - p80)",
        "clips/s",
        "ratio",
        "to tuned",
        "to fp32",
        "GFLOP/s",
        "convs",
        "differs",
        title=(
            f"Inference, 32 x 224 x 224, {torch.get_num_threads()} threads; CIDC's ratios per FLOP"
            " of I3D"
        ),
    )
    cases = [
        (name, dtype, batch)
        for dtype in (torch.bfloat16, torch.float32)
        for batch in ((1,) if quick else (1, 8))
        for name in (_PEERS[:1] if quick else _PEERS)
    ]
    untuned = {}
    for case in cases:
        contest = _Contest(*case)
        untuned[case] = statistics.median(alternate([contest.run_public], contest.rounds)[0])
    # From here on, both networks use the memory settings. They are built again, so that these also
    # apply to their weights.
    keep_freed_memory()
    for name, dtype, batch in cases:
        contest = _Contest(name, dtype, batch)
        contest.check()
        contest.report(table, untuned[name, dtype, batch], untuned[name, torch.float32, batch])
    Console(width=None if sys.stdout.isatty() else 150).print(table)


class _Contest:
    """Compares one public network with our network, with equal weights and clips."""

    def __init__(self, name: str, dtype: torch.dtype, batch: int) -> None:
        self.name = name
        self.dtype = dtype
        self.batch = batch
        self.rounds = 15 if dtype is torch.bfloat16 and batch == 1 else 3
        public, self.about = public_nets.build(name)
        public_nets.randomise(public, 0)
        ours = import_state(public.state_dict(), name=name).network
        self.config = ours.config
        clips = torch.randn(batch, 3, 32, 224, 224, generator=torch.Generator().manual_seed(1)).to(
            dtype
        )
        self.clips = clips.contiguous(memory_format=_LAST)
        self.public_clips = clips[:, :, :: 32 // self.about.frames].contiguous(memory_format=_LAST)
        self.expected = self.about.logits(public, self.public_clips[:2].float())
        self.public = public.to(memory_format=_LAST)
        self.ours = fold_for_inference(ours, dtype)
        # Some packages' heads use pooling that PyTorch cannot run in bfloat16; they need autocast.
        self.autocast = dtype is torch.bfloat16 and not _runs(
            lambda: self._call(public.to(dtype), self.public_clips[:1].clone())
        )
        if self.autocast:
            self.public = public.float()

    def run_public(self) -> Tensor:
        # The input is copied, because one package overwrites it.
        clips = self.public_clips.clone(memory_format=torch.preserve_format)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self._call(self.public, clips)

    def _call(self, net: nn.Module, clips: Tensor) -> Tensor:
        return self.about.logits(net, clips)

    def check(self) -> None:
        self.difference = float(
            (self.ours(self.clips)[:2] - self.expected).abs().max() / self.expected.abs().max()
        )
        if not self.difference < _TOLERANCE[self.dtype]:
            raise SystemExit(
                f"{self.name} {self.dtype} batch {self.batch}: logits differ by"
                f" {self.difference:.1e} of the largest; nothing is timed"
            )

    def report(self, table: Table, untuned: float, float32: float) -> None:
        runs: list[Run] = [self.run_public, lambda: self.ours(self.clips)]
        if self.name != "GluonCV I3D":
            public, mine = alternate(runs, self.rounds)
            self._row(
                table,
                self.name,
                self.config,
                self.ours,
                (untuned, float32),
                public,
                mine,
                f"{self.difference:.0e}",
            )
            return
        cidc = build_model(ModelConfig(backbone="i3d", cidc=CIDCConfig())).eval()
        expected = cidc(self.clips[:1].float())
        fold_for_inference(cidc, self.dtype)
        difference = float((cidc(self.clips[:1]) - expected).abs().max() / expected.abs().max())
        if not difference < _TOLERANCE[self.dtype]:
            raise SystemExit(
                f"CIDC on I3D {self.dtype}: folded logits differ by {difference:.1e} of the"
                " largest; nothing is timed"
            )
        public, mine, with_cidc = alternate([*runs, lambda: cidc(self.clips)], self.rounds)
        self._row(
            table,
            self.name,
            self.config,
            self.ours,
            (untuned, float32),
            public,
            mine,
            f"{self.difference:.0e}",
        )
        self._row(
            table,
            "CIDC on I3D",
            cidc.config,
            cidc,
            (untuned, float32),
            public,
            with_cidc,
            f"{difference:.0e}",
        )

    def _row(
        self,
        table: Table,
        name: str,
        config: ModelConfig,
        network: ActionNetwork,
        untuned: tuple[float, float],
        public: list[float],
        mine: list[float],
        difference: str,
    ) -> None:
        median = statistics.median(mine)
        tuned = statistics.median(public)
        flops = measure(config).flops
        per_flop = flops / measure(self.config).flops
        table.add_row(
            name,
            str(self.dtype).removeprefix("torch."),
            str(self.batch),
            f"{1e3 * untuned[0]:.1f}{'*' * self.autocast}",
            f"{1e3 * tuned:.1f}",
            f"{1e3 * median:.1f} ({1e3 * _percentile(mine, 20):.1f} -"
            f" {1e3 * _percentile(mine, 80):.1f})",
            f"{self.batch / median:.1f}",
            f"{per_flop * untuned[0] / median:.2f}",
            f"{per_flop * tuned / median:.2f}",
            f"{per_flop * untuned[1] / median:.2f}",
            f"{self.batch * flops / median / 1e9:.0f}",
            f"{_convolutions_alone(network, self.clips) / median:.0%}",
            difference,
        )


def _convolutions_alone(network: nn.Module, clips: Tensor) -> float:
    """Return the total seconds of the network's convolutions when each runs alone."""
    calls: list[tuple[nn.Module, tuple[Tensor, ...], dict[str, Tensor]]] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        calls.append((module, args, kwargs))

    hooks = [
        m.register_forward_pre_hook(note, with_kwargs=True)
        for m in network.modules()
        if isinstance(m, FoldedConv)
    ]
    network(clips)
    for hook in hooks:
        hook.remove()
    total = 0.0
    for module, args, kwargs in calls:
        times = []
        for _ in range(7):
            started_at = time.perf_counter()
            module(*args, **kwargs)
            times.append(time.perf_counter() - started_at)
        total += min(times)
    return total


def _runs(call: Run) -> bool:
    try:
        call()
    except NotImplementedError:
        return False
    return True


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


if __name__ == "__main__":
    sys.exit(main())
