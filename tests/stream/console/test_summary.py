"""The summary's section and line about the GPU."""

from __future__ import annotations

from typing import Any

from stream.console.summary import LatencyLog, build_summary, summary_lines
from stream.metrics import Metrics

RUNTIME = {"device": "cuda:0", "dtype": "bfloat16"}
UNKNOWN = {
    "use": {},
    "memory_bytes": {"total": None, "used_peak": None, "process_peak": None},
    "open_decoders_peak": {},
    "decoder_fallbacks": {},
    "problem": "nvidia-ml-py is not installed",
}


def summary(gpu: dict[str, Any] | None) -> dict[str, Any]:
    metrics = Metrics()
    counts: dict[tuple[str, str], int] = {}
    return build_summary(
        [],
        metrics,
        LatencyLog(),
        counts,
        outbox_left=0,
        lost=0,
        seconds=1.0,
        runtime=RUNTIME,
        gpu=gpu,
    )


def test_without_a_gpu_the_summary_has_no_section() -> None:
    assert "gpu" not in summary(None)
    assert not [line for line in summary_lines(summary(None)) if line.startswith("GPU")]


def test_the_gpu_has_one_line() -> None:
    known = UNKNOWN | {
        "use": {"compute": {"mean": 0.412, "p95": 0.6}, "decoder": {"mean": 0.75, "p95": 1.0}},
        "memory_bytes": {"total": 80 << 30, "used_peak": 40 << 30, "process_peak": 12 << 30},
        "decoder_fallbacks": {"codec": 3, "size": 2},
    }
    assert summary(known)["gpu"] == known
    [line] = [line for line in summary_lines(summary(known)) if line.startswith("GPU")]
    assert line == (
        "GPU: compute 41% (p95 60%), decoder 75% (p95 100%), 12.0 GiB of memory,"
        " 5 decoder fallbacks"
    )


def test_what_is_unknown_is_left_out_of_the_line() -> None:
    [line] = [line for line in summary_lines(summary(UNKNOWN)) if line.startswith("GPU")]
    assert line == "GPU: unknown: nvidia-ml-py is not installed"
