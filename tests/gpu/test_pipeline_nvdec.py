"""A live pipeline whose camera NVDEC decodes packet by packet, beside the same one in software."""

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
from model.media.nvdec import why_not_nvdec
from stream.config import StreamConfig
from stream.pipeline import Pipeline


def run(folder: Path, video: Path, weights: Path, decoder: str) -> dict[str, Any]:
    """Analyse a recording and return the summary; `bytes` are those that went to the GPU."""
    fields = {
        "cameras": [{"id": "a", "url": str(video), "pace": "fast"}],
        "source": {"decoder": decoder},
        "infer": {"weights": str(weights), "precision": "float32", "device": "cuda"},
        "outbox": {"path": folder / f"{decoder}.db"},
        "http": {"enabled": False},
    }
    with Pipeline(StreamConfig.model_validate(fields)) as pipeline:
        summary = pipeline.run(threading.Event())
        metrics = pipeline.metrics
        summary["bytes"] = metrics.by_label(metrics.uploaded, "kind")
        summary["fallbacks"] = metrics.by_label(metrics.decoder_fallbacks, "reason")
    return summary


def test_the_pipeline_gives_as_many_clips_by_nvdec_as_in_software(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    if reason := why_not_nvdec():
        pytest.skip(f"PyNvVideoCodec cannot be used: {reason}")
    video = next((scenes / "recordings").glob("*.mp4"))
    by_nvdec = run(tmp_path, video, tiny_weights, "nvdec")
    by_software = run(tmp_path, video, tiny_weights, "software")
    assert by_nvdec["fallbacks"] == {}
    for count in ("frames_decoded", "frames_sampled", "clips"):
        assert by_nvdec["cameras"]["a"][count] == by_software["cameras"]["a"][count] > 0
    # Only coded packets go to the GPU by NVDEC, and only decoded frames in software.
    assert set(by_nvdec["bytes"]) == {"packets"}
    assert set(by_software["bytes"]) == {"frames"}
    assert by_nvdec["bytes"]["packets"] < by_software["bytes"]["frames"] / 10
