"""Parts of the GPU check that run in a process of their own: `python -m scripts.gpu_parts PART`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def main() -> int:
    """Run the named part."""
    {
        "small-kernels": small_kernels,
        "network": network,
        "compiled-network": compiled_network,
        "training": training,
    }[sys.argv[1]]()
    print("GPU part done")
    return 0


def small_kernels() -> None:
    """Every small case once, forwards and backwards, and the window gather: for a sanitizer to
    watch.
    """
    from model.kernels import run_on_gpu
    from model.mixing.plan import run_backward, run_forward
    from model.window import WindowGather
    from tests.support.mixing_cases import CASES

    for number, case in enumerate(CASES):
        print(f"- case {number}: {case}")
        dtype = (torch.float32, torch.bfloat16)[number % 2]
        x, given, grad = (_carried(make(dtype)) for make in (case.map, case.given, case.gradient))
        mapping = ("affine", "plain", "minmax")[number % 3]
        run_forward(run_on_gpu, x, given, mapping=mapping, masked=True)  # type: ignore[arg-type]
        run_backward(
            run_on_gpu, grad, x, given, mapping=mapping, masked=True, of_map=True, of_given=True
        )  # type: ignore[arg-type]
        torch.cuda.synchronize()
    statistics_of: Any = SimpleNamespace(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))
    for size in ((3, 7), (4, 8)):
        ring = torch.zeros(2, 4, *size, 3, dtype=torch.uint8, device="cuda")
        WindowGather(statistics_of, dtype=torch.bfloat16, device=ring.device, path="cuda")(
            ring, [(1, 3), (0, 0)]
        )
    torch.cuda.synchronize()


def _carried(values: Tensor) -> Tensor:
    """The same memory layout on the GPU, by one copy and no kernel of PyTorch's."""
    storage = torch.empty(0, dtype=values.dtype).set_(values.untyped_storage()).cuda()
    return storage.as_strided(values.shape, values.stride(), values.storage_offset())


@torch.inference_mode()
def network() -> None:
    """Parity with the CPU, the window gather's rate, clips a second: eager, CUDA graph,
    compiled; and where the time goes.
    """
    from benchmarks.mixing import copy_bytes_per_second

    device = torch.device("cuda")
    print(f"- a copy moves {copy_bytes_per_second(device) / 1e9:.0f} GB/s")
    _print_gather()
    # from here on pydantic is needed
    from model.network import ModelConfig, build_model, fold_for_inference

    _print_parity()
    torch.manual_seed(0)
    built = build_model(ModelConfig(backbone="i3d")).eval()
    folded = fold_for_inference(built, torch.bfloat16).to(device)
    print("- clips a second, CIDC on I3D-50, 32 x 224 x 224, bfloat16, batch norm folded:")
    print("\n| batch | eager | CUDA graph |\n|---|---|---|")
    for batch in (1, 8, 64):
        clips = _clips(batch)
        print(
            f"| {batch} | {_rate(lambda clips=clips: folded(clips), batch):.0f} |"
            f" {_rate(_graph_of(folded, clips), batch):.0f} |"
        )
    _print_shares(folded, _clips(8))


@torch.inference_mode()
def compiled_network() -> None:
    """Clips a second of the network as torch.compile makes it, not folded."""
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
    begun = time.monotonic()
    compiled(clips)
    seconds = time.monotonic() - begun
    print(
        f"- the same by torch.compile: {_rate(lambda: compiled(clips), 8):.0f} clips/s, built in"
        f" {seconds:.0f} s"
    )


def training() -> None:
    """Clips a second of a training step, and of the loader that decodes H.264 on the GPU."""
    from model.media.preprocess import PreprocessConfig
    from model.network import ModelConfig, build_model, to_channels_last
    from train.config import DataConfig, OptimiserConfig, TrainConfig
    from train.distributed import Ranks
    from train.engine.step import Stepper

    data = DataConfig(train=Path("t"), validation=Path("v"), labels=("a", "b"))
    model = ModelConfig(backbone="i3d", num_classes=2)
    device = torch.device("cuda")
    print(
        "- training, CIDC on I3D-50, 32 x 224 x 224, bfloat16:\n\n| batch | clips a second"
        " |\n|---|---|"
    )
    for batch in (8, 32):
        config = TrainConfig(
            name="t",
            out=Path("t"),
            model=model,
            data=data,
            preprocess=PreprocessConfig(),
            optimiser=OptimiserConfig(batch=batch),
        )
        network = build_model(model).to(device)
        to_channels_last(network)
        stepper = Stepper(network, config, device=device, dtype=torch.bfloat16, ranks=Ranks())
        clips = torch.randint(0, 256, (batch, 32, 224, 224, 3), dtype=torch.uint8, device=device)
        labels = torch.zeros(batch, dtype=torch.long)
        rate = _rate(
            lambda clips=clips, labels=labels, run=stepper: run(
                clips, labels, rate=1e-3, position=(0, 0)
            ),
            batch,
            samples=5,
        )
        print(f"| {batch} | {rate:.0f} |")
        del network, stepper
    _print_decoding()


def _print_decoding() -> None:
    """The whole loader, from H.264 files to clips on the device, by DALI's decoder and in
    software.
    """
    from benchmarks.loader import SIZES, make_plan, write_file
    from model.media.preprocess import PreprocessConfig
    from train.data.clip_store import ClipStore
    from train.data.loader import batches
    from train.data.readers import EncodedReader, WorkerReader

    store = ClipStore(fps=15, frames=32, short_side=None, cache=None, scale_early=True)
    picture = PreprocessConfig(short_side=112, height=112, width=112)
    print(
        "\n- clips a second from H.264, batches of 8, 112 x 112 on the device:\n\n| files | DALI on"
        " the GPU | 8 workers |\n|---|---|---|"
    )
    workers = WorkerReader(store, 8)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(
                [write_file(Path(folder) / f"{number}.mp4", size, number) for number in range(4)],
                128,
            )
            rates = []
            for reader in (EncodedReader(store), workers):
                list(batches(plan[:32], 8, reader=reader, preprocess=picture, device="cuda"))
                begun = time.monotonic()
                for _ in batches(plan, 8, reader=reader, preprocess=picture, device="cuda"):
                    pass
                torch.cuda.synchronize()
                rates.append(len(plan) / (time.monotonic() - begun))
        print(f"| {size[0]}x{size[1]} | {rates[0]:.0f} | {rates[1]:.0f} |")
    workers.close()


def _print_gather() -> None:
    from model.window import WindowGather

    statistics_of: Any = SimpleNamespace(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))
    ring = torch.randint(0, 256, (64, 32, 224, 224, 3), dtype=torch.uint8, device="cuda")
    windows = [(slot, slot % 32) for slot in range(64)]
    for path in ("cuda", "reference"):
        gather = WindowGather(statistics_of, dtype=torch.bfloat16, device=ring.device, path=path)  # type: ignore[arg-type]
        seconds = 64 / _rate(lambda gather=gather: gather(ring, windows), 64)
        rate = 3 * ring.numel() / seconds / 1e9
        print(
            f"- window gather of 64 clips of 32 x 224 x 224 to bfloat16, {path}:"
            f" {1e3 * seconds:.2f} ms, {rate:.0f} GB/s"
        )


def _print_parity() -> None:
    """The weights that ship, on the same clips: labels and probabilities on the CPU in float32
    and on the GPU.
    """
    from model.checkpoints.weights import load_model
    from model.network import fold_for_inference

    path = next((Path(__file__).parent.parent / "model" / "pretrained").glob("*.safetensors"))
    picture = load_model(path).spec.preprocess  # type: ignore[union-attr]
    clips = torch.randn(16, 3, 32, picture.height, picture.width)
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


def _print_shares(folded: torch.nn.Module, clips: Tensor) -> None:
    """The kernels that take most of the GPU's time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        folded(clips)
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)[:12]
    total = sum(row.self_device_time_total for row in profile.key_averages())
    if not total:
        print("\n- no shares of kernels: the profiler saw none on this machine")
        return
    print("\n| kernel, batch 8 | share of GPU time |\n|---|---|")
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
    """Items a second, the median of several samples by the device's own clock."""
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


if __name__ == "__main__":
    sys.exit(main())
