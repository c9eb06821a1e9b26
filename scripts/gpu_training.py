"""A part of the GPU check: how fast a step is, how fast the loader is, and whether steps wait."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.gpu_targets import print_figure

__all__ = ["measure_training"]

_SIZES = ((640, 360), (1920, 1080))


def measure_training(rate: Callable[..., float]) -> None:
    """Measure clips per second of a training step and of the loader, then both together.

    Args:
        rate: measures items per second of a function, by the GPU's clock.
    """
    print("- training, CIDC on I3D-50, 32 x 224 x 224, bfloat16:\n\n| batch | clips a second |")
    print("|---|---|")
    for batch in (8, 32):
        stepper = make_stepper(batch, torch.device("cuda"), depth=50, dtype=torch.bfloat16)
        clips = torch.randint(0, 256, (batch, 32, 224, 224, 3), dtype=torch.uint8, device="cuda")
        labels = torch.zeros(batch, dtype=torch.long, device="cuda")
        run = _step_of(stepper, clips, labels)
        print(f"| {batch} | {rate(run, batch, samples=5):.0f} |")
        del stepper, run, clips
    print()
    _print_decoding()
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder), _SIZES[0])
        fraction = waiting_fraction(files, device=torch.device("cuda"), batch=32, steps=12)
    print(
        f"- training on H.264 of {_SIZES[0][0]}x{_SIZES[0][1]} waits for data {fraction:.1%} of the"
        " time"
    )
    print_figure("training_wait_fraction", fraction)


def make_stepper(
    batch: int, device: torch.device, *, depth: int, dtype: torch.dtype, width: int = 64
) -> Any:
    """Return a stepper for CIDC on I3D with two classes."""
    from model.media.preprocess import PreprocessConfig
    from model.network import ModelConfig, build_model, to_channels_last
    from train.config import DataConfig, OptimiserConfig, TrainConfig
    from train.distributed import Ranks
    from train.engine.step import Stepper

    model = ModelConfig.model_validate(
        {"backbone": "i3d", "depth": depth, "num_classes": 2, "width": width}
    )
    config = TrainConfig(
        name="t",
        out=Path("t"),
        model=model,
        data=DataConfig(train=Path("t"), validation=Path("v"), labels=("a", "b")),
        preprocess=PreprocessConfig(),
        optimiser=OptimiserConfig(batch=batch),
    )
    network = build_model(model).to(device)
    to_channels_last(network)
    return Stepper(network, config, device=device, dtype=dtype, ranks=Ranks())


def waiting_fraction(
    files: Sequence[Path],
    *,
    device: torch.device,
    batch: int,
    steps: int,
    side: int = 224,
    depth: int = 50,
    width: int = 64,
) -> float:
    """Train on files that DALI decodes; return the fraction of the time that steps wait for data.

    The first three steps, in which everything warms up, do not count.
    """
    from benchmarks.loader import make_plan
    from model.media.preprocess import PreprocessConfig
    from train.data.clip_store import ClipStore
    from train.data.loader import batches
    from train.data.readers import EncodedReader
    from train.distributed import Ranks
    from train.engine.step_sums import PendingSums, StepTimer

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    stepper = make_stepper(batch, device, depth=depth, dtype=dtype, width=width)
    framing = PreprocessConfig(short_side=side, height=side, width=side)
    reader = EncodedReader(ClipStore(fps=15, frames=32, short_side=None, cache=None), threads=8)
    warm = 3
    plan = make_plan(files, batch * (steps + warm))
    feed = batches(plan, batch, reader=reader, preprocess=framing, device=device)
    timer = StepTimer(device)
    waited = 0.0
    pending = None
    for number in range(steps + warm):
        if number == warm:
            started_at = time.perf_counter()
        asked_at = time.perf_counter()
        made = next(feed)
        times = timer.start(time.perf_counter() - asked_at)
        result_2 = stepper(made.clips_BTHWC, made.labels_B, rate=1e-3, position=(0, number))
        sums = PendingSums(result_2, clips=batch, asked_to_stop=False, ranks=Ranks())
        timer.end()
        if pending is not None:
            pending[0].fetch()
            waited += pending[1].waited() if number > warm else 0.0
        pending = (sums, times)
    assert pending is not None
    pending[0].fetch()
    waited += pending[1].waited()
    spent = time.perf_counter() - started_at
    feed.close()
    reader.close()
    return waited / spent


def _step_of(stepper: Any, clips: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    return lambda: stepper(clips, labels, rate=1e-3, position=(0, 0))


def _write(folder: Path, size: tuple[int, int]) -> list[Path]:
    from benchmarks.loader import write_file

    return [write_file(folder / f"{number}.mp4", size, number) for number in range(2)]


def _print_decoding() -> None:
    """Measure the loader with DALI's decoder by its number of threads, and with workers."""
    from benchmarks.loader import make_plan
    from model.media.decoder_engines import decoder_engines
    from model.media.preprocess import PreprocessConfig
    from train.data.clip_store import ClipStore
    from train.data.loader import batches
    from train.data.readers import EncodedReader, WorkerReader

    store = ClipStore(fps=15, frames=32, short_side=None, cache=None, scale_early=True)
    framing = PreprocessConfig(short_side=112, height=112, width=112)
    engines = decoder_engines(torch.device("cuda", torch.cuda.current_device()))
    readers: dict[str, Any] = {
        f"DALI, {threads} threads": EncodedReader(store, threads=8, decoder_threads=threads)
        for threads in (2, engines, 2 * engines)
    }
    readers["8 workers"] = WorkerReader(store, 8)
    print("- clips a second from H.264, batches of 8, 112 x 112 on the device:\n")
    print(f"| files | {' | '.join(readers)} |\n|{'---|' * (1 + len(readers))}")
    for size in _SIZES:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(_write(Path(folder), size), 64)
            cells = []
            for reader in readers.values():
                list(batches(plan[:16], 8, reader=reader, preprocess=framing, device="cuda"))
                started_at = time.perf_counter()
                for _ in batches(plan, 8, reader=reader, preprocess=framing, device="cuda"):
                    pass
                torch.cuda.synchronize()
                cells.append(f"{len(plan) / (time.perf_counter() - started_at):.0f}")
        print(f"| {size[0]}x{size[1]} | {' | '.join(cells)} |")
    for reader in readers.values():
        reader.close()
    print()
