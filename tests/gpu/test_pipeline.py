"""Preprocessing and the live pipeline on a GPU; they need DALI and PyAV."""

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
from model.media.preprocess import CropSpec, PreprocessConfig, Preprocessor
from stream.config import StreamConfig
from stream.pipeline import Pipeline
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import read_manifest
from train.data.readers import EncodedReader, InProcessReader

CONFIG = PreprocessConfig(short_side=48, height=48, width=80)


def test_the_gpu_graph_gives_what_the_cpu_graph_gives() -> None:
    rows, columns = np.mgrid[0:360, 0:640]
    picture = np.stack(
        [(rows * 255 // 360), (columns * 255 // 640), (rows + columns) * 255 // 1000], axis=-1
    ).astype(np.uint8)[None]
    on_cpu = Preprocessor(CONFIG, max_batch=1)([picture]).clone()
    on_gpu = Preprocessor(CONFIG, max_batch=1, device="gpu")([picture]).cpu()
    assert (on_cpu.int() - on_gpu.int()).abs().max() <= 1


def test_the_pipeline_runs_on_the_gpu(scenes: Path, tiny_weights: Path, tmp_path: Path) -> None:
    fields = {
        "cameras": [
            {"id": "a", "url": str(next((scenes / "recordings").glob("*.mp4"))), "pace": "fast"}
        ],
        "infer": {"weights": str(tiny_weights), "precision": "float32", "device": "cuda"},
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0},
    }
    with Pipeline(StreamConfig.model_validate(fields)) as pipeline:
        summary = pipeline.run(threading.Event())
    assert summary["cameras"]["a"]["windows"] > 0
    assert summary["runtime"]["device"].startswith("cuda")


def test_dali_decodes_h264_on_the_gpu_as_software_does(scenes: Path) -> None:
    entries = read_manifest(scenes / "clips/manifest.csv").entries[:3]
    planned = [
        PlannedClip(entry, 0.5, CropSpec(48, 0.2 * index, 0.5, index == 1), 0)
        for index, entry in enumerate(entries)
    ]
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    (ours,) = batches(planned, 3, reader=EncodedReader(store), preprocess=CONFIG, device="cuda")
    (theirs,) = batches(planned, 3, reader=InProcessReader(store), preprocess=CONFIG)
    assert ours.clips_BTHWC.is_cuda
    difference = (ours.clips_BTHWC.cpu().int() - theirs.clips_BTHWC.int()).abs().float()
    assert difference.mean() < 3
    late = (ours.clips_BTHWC[:, 1:].cpu().int() - theirs.clips_BTHWC[:, :-1].int()).abs().float()
    assert late.mean() > difference.mean()
