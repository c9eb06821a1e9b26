"""One command for a machine with a GPU: run the GPU tests, measure clips/s, write a Markdown report.

Needs torch and pytest; what else is missing (CuPy, DALI, PyAV) is reported, not required. Uses no network.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "cupy-cuda13x", "nvidia-dali-cuda130", "av", "kafka-python", "numpy", "pytest")


def main() -> int:
    """Write the report to the file named on the command line (default `gpu-report.md`); status 0 if all tests passed."""
    sys.path.insert(0, str(ROOT))
    report = Path(sys.argv[1] if len(sys.argv) > 1 else "gpu-report.md")
    try:
        import torch
    except ImportError:
        print("error: PyTorch is not installed here; `make setup` installs it", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("error: PyTorch finds no CUDA device; this check needs one", file=sys.stderr)
        return 2
    lines = ["# GPU check", "", f"{time.strftime('%Y-%m-%d')}, {torch.cuda.get_device_name()}, Python {platform.python_version()}", ""]
    lines += [f"- {name} {_version(name)}" for name in PACKAGES]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--override-ini=addopts=", str(ROOT / "tests")]
    tests = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines += ["", "## Tests", "", "```", *tests.stdout.strip().splitlines()[-30:], "```", ""]
    lines += ["## Clips per second, CIDC on I3D-50, 32 x 224 x 224, bfloat16, batch norm folded", ""]
    lines += ["| batch | eager | CUDA graph |", "|---|---|---|"]
    try:
        lines += [_speed_row(batch) for batch in (1, 8, 64)]
    except ImportError as error:
        lines += ["", f"not measured: {error}"]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(report.read_text(encoding="utf-8"))
    return 0 if tests.returncode == 0 else 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _speed_row(batch: int) -> str:
    import torch

    from model.network import ModelConfig, build_model, fold_for_inference

    network = fold_for_inference(build_model(ModelConfig(backbone="i3d")).eval(), torch.bfloat16).cuda()
    clips = torch.randn(batch, 3, 32, 224, 224, device="cuda", dtype=torch.bfloat16)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        for _ in range(3):
            network(clips)
        eager = _rate(lambda: network(clips), batch)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(clips)
        graphed = _rate(graph.replay, batch)
    return f"| {batch} | {eager:.0f} | {graphed:.0f} |"


def _rate(run, batch: int, repeats: int = 20) -> float:  # type: ignore[no-untyped-def]
    import torch

    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize()
    return batch * repeats / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
