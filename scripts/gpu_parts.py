"""Run one part of the GPU check in a separate process: `python -m scripts.gpu_parts PART`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from scripts.gpu_libraries import check_libraries
from scripts.gpu_live import run_live
from scripts.gpu_targets import print_figure
from scripts.gpu_training import measure_training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part named on the command line."""
    options = parser().parse_args(arguments)
    if options.part == "libraries":
        check_libraries(options.without)
    else:
        PARTS[options.part]()
    print("GPU part done")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("part", choices=["libraries", *PARTS])
    made.add_argument(
        "--without", action="append", default=[], help="a package that this machine need not have"
    )
    return made


def small_kernels() -> None:
    """Run every small case of each kernel once, under a sanitizer."""
    from model.clip_gather import ClipGather
    from model.kernels import run_on_gpu
    from model.mixing.cuda import run_backward, run_forward
    from tests.support.mixing_cases import CASES

    for number, case in enumerate(CASES):
        print(f"- case {number}: {case}")
        dtype = (torch.float32, torch.bfloat16)[number % 2]
        x, given, grad = (_carried(make(dtype)) for make in (case.map, case.given, case.gradient))
        mapping = ("affine", "plain", "minmax")[number % 3]
        run_forward(run_on_gpu, x, given, mapping=mapping, masked=True)  # type: ignore[arg-type]
        run_backward(
            run_on_gpu,
            grad,
            x,
            given,
            mapping=mapping,
            masked=True,
            needs_map=True,
            needs_given=True,
        )  # type: ignore[arg-type]
        torch.cuda.synchronize()
    statistics_of: Any = SimpleNamespace(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))
    for size in ((3, 7), (4, 8)):
        ring = torch.zeros(2, 4, *size, 3, dtype=torch.uint8, device="cuda")
        ClipGather(statistics_of, dtype=torch.bfloat16, device=ring.device, path="cuda")(
            ring, [(1, 3), (0, 0)]
        )
    _small_surfaces()
    torch.cuda.synchronize()


def _small_surfaces() -> None:
    from model.media.nv12 import SurfaceConverter
    from tests.support.surfaces import CASES, COLOURS, noise, surface_of

    for number, (width, height, short_side, turns) in enumerate(CASES):
        dtype = (torch.uint8, torch.uint16)[number % 2]
        SurfaceConverter(short_side=short_side, path="cuda")(
            surface_of(noise(width, height), dtype).cuda(),
            width=width,
            height=height,
            colours=COLOURS[number % len(COLOURS)],
            turns=turns,
        )


def _carried(values: Tensor) -> Tensor:
    """Copy a tensor to the GPU in the same memory layout, without using a PyTorch kernel."""
    storage = torch.empty(0, dtype=values.dtype).set_(values.untyped_storage()).cuda()
    return storage.as_strided(values.shape, values.stride(), values.storage_offset())


@torch.inference_mode()
def network() -> None:
    """Compare results with the CPU; measure the clip gather, clips per second and kernels."""
    from benchmarks.timing import copy_bytes_per_second

    device = torch.device("cuda")
    print(f"- a copy moves {copy_bytes_per_second(device) / 1e9:.0f} GB/s")
    _print_gather()
    _print_surfaces()
    # Everything below needs pydantic.
    from model.network import ModelConfig, build_model, fold_for_inference

    _print_parity()
    torch.manual_seed(0)
    built = build_model(ModelConfig(backbone="i3d")).eval()
    folded = fold_for_inference(built, torch.bfloat16).to(device)
    print("- clips a second, CIDC on I3D-50, 32 x 224 x 224, bfloat16, batch norm folded:")
    print("\n| batch | eager | CUDA graph |\n|---|---|---|")
    eager_rate = graph_rate = 0.0
    for batch in (1, 8, 64):
        clips = _clips(batch)
        eager_rate = _rate(lambda clips=clips: folded(clips), batch)
        graph_rate = _rate(_graph_of(folded, clips), batch)
        print(f"| {batch} | {eager_rate:.0f} | {graph_rate:.0f} |")
    print()
    print_figure("network_clips_per_second", max(eager_rate, graph_rate))
    _print_kernels(folded, _clips(8))


@torch.inference_mode()
def compiled_network() -> None:
    """Measure clips per second of the network under torch.compile, not folded."""
    from model.network import ModelConfig, build_model, to_channels_last

    torch.manual_seed(0)
    plain = to_channels_last(build_model(ModelConfig(backbone="i3d")).eval()).to(
        "cuda", torch.bfloat16
    )
    compiled = torch.compile(plain, dynamic=False)
    clips = _clips(8)
    print(
        f"- CIDC on I3D-50, batch 8: {_rate(lambda: plain(clips), 8):.0f} clips/s eager and not"
        " folded"
    )
    started_at = time.monotonic()
    compiled(clips)
    seconds = time.monotonic() - started_at
    print(
        f"- the same by torch.compile: {_rate(lambda: compiled(clips), 8):.0f} clips/s, built in"
        f" {seconds:.0f} s"
    )


def training() -> None:
    """Measure clips per second of a training step and of the loader, and whether steps wait."""
    measure_training(_rate)


def live() -> None:
    """Analyse 16 cameras from files while the network keeps the GPU busy."""
    run_live()


def _print_gather() -> None:
    from model.clip_gather import ClipGather

    statistics_of: Any = SimpleNamespace(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))
    ring = torch.randint(0, 256, (64, 32, 224, 224, 3), dtype=torch.uint8, device="cuda")
    clips = [(slot, slot % 32) for slot in range(64)]
    for path in ("cuda", "reference"):
        gather = ClipGather(statistics_of, dtype=torch.bfloat16, device=ring.device, path=path)  # type: ignore[arg-type]
        seconds = 64 / _rate(lambda gather=gather: gather(ring, clips), 64)
        rate = 3 * ring.numel() / seconds / 1e9
        print(
            f"- clip gather of 64 clips of 32 x 224 x 224 to bfloat16, {path}:"
            f" {1e3 * seconds:.2f} ms, {rate:.0f} GB/s"
        )


def _print_surfaces() -> None:
    from model.media.nv12 import SurfaceColours, SurfaceConverter

    # More than the caches hold.
    surfaces = torch.randint(0, 256, (64, 1620, 1920), dtype=torch.uint8, device="cuda")
    for path in ("cuda", "reference"):
        convert = SurfaceConverter(short_side=448, path=path)  # type: ignore[arg-type]

        def run(convert: SurfaceConverter = convert) -> None:
            for samples in surfaces:
                convert(samples, width=1920, height=1080, colours=SurfaceColours())

        rate = _rate(run, len(surfaces))
        moved = surfaces[0].numel() + 3 * 796 * 448
        print(
            f"- surfaces of 1920 x 1080 to RGB of 796 x 448, {path}: {1e6 / rate:.0f} µs each,"
            f" {rate * moved / 1e9:.0f} GB/s"
        )


def _print_parity() -> None:
    """Compare labels and probabilities of the included weights on the GPU and the CPU (float32)."""
    from model.checkpoints.weights import load_model
    from model.network import fold_for_inference

    path = next((Path(__file__).parent.parent / "model" / "pretrained").glob("*.safetensors"))
    framing = load_model(path).spec.preprocess  # type: ignore[union-attr]
    clips = torch.randn(16, 3, 32, framing.height, framing.width)
    expected = torch.softmax(load_model(path).eval()(clips), dim=1)
    torch.backends.cudnn.allow_tf32 = False
    for dtype in (torch.float32, torch.bfloat16):
        folded = fold_for_inference(load_model(path), dtype).cuda()
        found = torch.softmax(
            folded(clips.cuda().to(dtype, memory_format=torch.channels_last_3d)).float(), dim=1
        ).cpu()
        same = (found.argmax(1) == expected.argmax(1)).float().mean()
        difference = (found - expected).abs().max()
        print(
            f"- {path.stem}, GPU {str(dtype)[6:]} to CPU float32: probabilities differ by"
            f" {difference:.1e}, same label {same:.2f}"
        )
        assert difference < (1e-2 if dtype == torch.float32 else 0.15), "CPU and GPU disagree"


def _print_kernels(folded: torch.nn.Module, clips: Tensor) -> None:
    """Print the kernels that take most of the GPU's time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        folded(clips)
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)[:12]
    total = sum(row.self_device_time_total for row in profile.key_averages())
    if not total:
        print("\n- no times of kernels: the profiler saw none on this machine")
        return
    print("\n| kernel, batch 8 | fraction of GPU time |\n|---|---|")
    for row in rows:
        print(f"| `{row.key[:90].replace('|', ' ')}` | {row.self_device_time_total / total:.3f} |")


def _clips(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 224, 224, device="cuda", dtype=torch.bfloat16).contiguous(
        memory_format=torch.channels_last_3d
    )


def _graph_of(folded: torch.nn.Module, clips: Tensor) -> Callable[[], None]:
    folded(clips)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        folded(clips)
    return graph.replay


def _rate(run: Callable[[], object], items: int, samples: int = 10) -> float:
    """Return items per second: the median of several samples, timed by the GPU's clock."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(samples):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(float(start.elapsed_time(end)) * 1e-3)
    return items / statistics.median(seconds)


PARTS: dict[str, Callable[[], None]] = {
    "small-kernels": small_kernels,
    "network": network,
    "compiled-network": compiled_network,
    "live": live,
    "training": training,
}


if __name__ == "__main__":
    sys.exit(main())
