"""Preprocessing and the live pipeline on a GPU; they need DALI and PyAV."""

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
from model.preprocess import PreprocessConfig, Preprocessor
from stream.pipeline import Pipeline
from stream.settings import StreamConfig

CONFIG = PreprocessConfig(short_side=48, height=48, width=80)


def test_the_gpu_graph_gives_what_the_cpu_graph_gives() -> None:
    rows, columns = np.mgrid[0:360, 0:640]
    picture = np.stack([(rows * 255 // 360), (columns * 255 // 640), (rows + columns) * 255 // 1000], axis=-1).astype(np.uint8)[None]
    on_cpu = Preprocessor(CONFIG, max_batch=1)([picture]).clone()
    on_gpu = Preprocessor(CONFIG, max_batch=1, device="gpu")([picture]).cpu()
    assert (on_cpu.int() - on_gpu.int()).abs().max() <= 1


def test_the_pipeline_runs_on_the_gpu(scenes: Path, tiny_weights: Path, tmp_path: Path) -> None:
    fields = {
        "cameras": [{"id": "a", "url": str(next((scenes / "recordings").glob("*.mp4"))), "pace": "fast"}],
        "infer": {"weights": str(tiny_weights), "precision": "float32", "device": "cuda"},
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0},
    }
    summary = Pipeline(StreamConfig.model_validate(fields)).run(threading.Event())
    assert summary["cameras"]["a"]["windows"] > 0
    assert summary["runtime"]["device"].startswith("cuda")
