"""Parts of the GPU check: cameras from files, while the network keeps the device busy."""

from __future__ import annotations

import collections
import functools
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.gpu_targets import print_figure

__all__ = ["run_fleets", "run_live"]

_FRAMES_PER_SECOND = 30  # of the file


def run_live(
    *,
    cameras: int = 16,
    seconds: float = 20.0,
    device: str = "cuda",
    size: tuple[int, int] = (1280, 720),
    depth: int = 50,
    side: int = 224,
    width: int = 64,
    stride: int = 2,
    video: Path | None = None,
) -> dict[str, Any]:
    """Analyse cameras in real time; print the times of preprocessing and what was lost.

    The network has random weights. With the default stride a clip is due at every second sampled
    frame, so that the network has as much work as the cameras can give it.

    Args:
        cameras: number of cameras; all play the same file, over and over.
        size: of the frames of the file that is written.
        depth, side, width: of the network.
        stride: sampled frames from one clip to the next.
        video: the file, if it is written already.

    Returns:
        The summary of the pipeline.

    Raises:
        AssertionError: a camera gave no clip, or preprocessing never ran.
    """
    from benchmarks.loader import write_file
    from model.media.preprocess import Preprocessor
    from stream.config import StreamConfig
    from stream.pipeline import Pipeline

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = video or write_file(folder / "camera.mp4", size, 0)
        weights = _write_weights(folder / "w.safetensors", depth, side, width)
        fields = _fields(folder, video, cameras)
        fields |= {"clip": {"hop": stride}, "infer": {"weights": str(weights), "device": device}}
        config = StreamConfig.model_validate(fields)
        times = _Times(Preprocessor.__call__)
        Preprocessor.__call__ = times.measured()  # type: ignore[method-assign]
        try:
            with Pipeline(config) as pipeline:
                times.seconds.clear()  # of the warm-up
                summary = pipeline.run(threading.Event(), duration_seconds=seconds)
                busy = _stage_seconds(pipeline.metrics, "infer") / seconds
                latencies = pipeline.latency.values()
                uploaded = pipeline.metrics.total(pipeline.metrics.uploaded)
        finally:
            Preprocessor.__call__ = times.original  # type: ignore[method-assign]
    _report(times.seconds, summary, busy=busy, latencies=latencies, cameras=cameras)
    _report_decoding(summary, uploaded)
    return summary


def _fields(folder: Path, video: Path, cameras: int) -> dict[str, Any]:
    """Return the sections of a configuration that do not depend on the network."""
    return {
        "cameras": [
            {"id": f"c{number}", "url": str(video), "loop": True} for number in range(cameras)
        ],
        "outbox": {"path": folder / "outbox.db"},
        "http": {"enabled": False},
        "log": {"level": "error"},
    }


class _Times:
    """Measures how long each call of a function takes."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.seconds: list[float] = []

    def measured(self) -> Any:
        @functools.wraps(self.original)
        def run(*given: Any, **named: Any) -> Any:
            started_at = time.perf_counter()
            result = self.original(*given, **named)
            self.seconds.append(time.perf_counter() - started_at)
            return result

        return run


def _write_weights(path: Path, depth: int, side: int, width: int) -> Path:
    from model import ModelConfig, ModelSpec, build_model, save_model
    from model.media.preprocess import PreprocessConfig

    torch.manual_seed(0)
    model = ModelConfig.model_validate(
        {"backbone": "i3d", "depth": depth, "num_classes": 2, "width": width}
    )
    framing = PreprocessConfig(short_side=side, height=side, width=side)
    spec = ModelSpec(name="check", model=model, labels=("a", "b"), preprocess=framing)
    save_model(build_model(model), path, spec=spec)
    return path


def _stage_seconds(metrics: Any, stage: str) -> float:
    """Return the seconds that a stage has taken in all."""
    samples = (sample for metric in metrics.stage.collect() for sample in metric.samples)
    return float(
        sum(
            sample.value
            for sample in samples
            if sample.name.endswith("_sum") and sample.labels.get("stage") == stage
        )
    )


def _report(
    seconds: list[float],
    summary: dict[str, Any],
    *,
    busy: float,
    latencies: list[float],
    cameras: int,
) -> None:
    counts = [facts["clips"] for facts in summary["cameras"].values()]
    assert len(counts) == cameras, f"{len(counts)} of {cameras} cameras are in the summary"
    assert min(counts) > 0, "a camera gave no clip"
    assert seconds, "preprocessing never ran"
    p50, p99 = (1e3 * float(value) for value in np.percentile(seconds, [50, 99]))
    print(f"- {cameras} cameras, {sum(counts)} clips; the network was busy {busy:.0%} of the time")
    print(f"- one run of preprocessing: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {len(seconds)} runs")
    lost: collections.Counter[str] = collections.Counter()
    for facts in summary["cameras"].values():
        lost.update(facts["drops"])
    print(f"- dropped packets, frames and clips: {dict(lost) or 'none'}")
    if latencies:
        late50, late95 = (float(value) for value in np.percentile(latencies, [50, 95]))
        print(f"- from a frame to its result: p50 {late50:.3f} s, p95 {late95:.3f} s")
        print_figure(f"camera_to_event_p95_seconds_{cameras}", late95)
    print_figure("preprocess_p99_ms", p99)


def _report_decoding(summary: dict[str, Any], uploaded: int) -> None:
    """Print how fast the cameras were decoded, and what was watched of the GPU.

    Args:
        uploaded: bytes copied to the GPU.
    """
    decoded = sum(facts["frames_decoded"] for facts in summary["cameras"].values())
    wanted = _FRAMES_PER_SECOND * len(summary["cameras"]) * summary["duration_seconds"]
    print(f"- {decoded} frames decoded, {decoded / wanted:.0%} of what the cameras sent")
    if decoded and uploaded:
        print_figure("host_to_device_bytes_per_frame", uploaded / decoded)
    if "gpu" in summary:
        print(f"- of the GPU: {summary['gpu']}")
    if summary["network"] is not None:
        print(f"- of the network: {summary['network']}")


def run_fleets(
    *,
    fleets: Sequence[int] = (16, 64, 128),
    seconds: float = 15.0,
    device: str = "cuda",
    size: tuple[int, int] = (1920, 1080),
    depth: int = 50,
    side: int = 224,
    width: int = 64,
) -> None:
    """Analyse ever more cameras with the default stride; compare their memory with the estimate.

    Args:
        fleets: numbers of cameras.
        seconds: how long each fleet runs.
        size: of the video, which has 30 frames a second.
        depth, side, width: of the network.
    """
    from benchmarks.loader import write_file
    from model import CIDCConfig, ModelConfig
    from model.media.clip_cutter import DEFAULT_STRIDE
    from model.media.preprocess import PreprocessConfig
    from scripts.gpu_memory import pipeline_memory

    model = ModelConfig(backbone="i3d", depth=depth, width=width, cidc=CIDCConfig())
    framing = PreprocessConfig(short_side=side, height=side, width=side)
    network: dict[str, Any] = {"depth": depth, "side": side, "width": width}
    with tempfile.TemporaryDirectory() as name:
        video = write_file(Path(name) / "camera.mp4", size, 0)
        for cameras in fleets:
            print(f"\n- **{cameras} cameras of {size[0]}x{size[1]}**", flush=True)
            run_live(
                cameras=cameras,
                seconds=seconds,
                device=device,
                stride=DEFAULT_STRIDE,
                video=video,
                **network,
            )
            rows = pipeline_memory(*size, cameras=cameras, model=model, preprocess=framing)
            usual, at_most = (
                sum(sizes) / 2**20
                for sizes in zip(*((row.usual, row.at_most) for row in rows), strict=True)
            )
            print(f"- memory on paper: usually {usual:.0f} MiB, at most {at_most:.0f} MiB")
