"""What a run says about itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs import ConfigError
from model import ModelSpec
from model.pycuda_memory import PyCudaMemory
from model.staging import HostUpload, TorchMemory
from stream.analysis.backlog import Backlog
from stream.analysis.inbox import Inbox
from stream.assembly import build_clip_stage, build_ring
from stream.config import StreamConfig
from stream.metrics import Metrics
from stream.runtime_report import describe_runtime
from tests.support import fake_pycuda
from tests.support.fake_cuda import FakeCuda

GPU = torch.device("cuda", 0)


def recogniser(device: torch.device) -> Any:
    return SimpleNamespace(
        device=device,
        engine=SimpleNamespace(name="graph"),
        dtype=torch.bfloat16,
        mixing="reference",
        mixing_reason="asked for",
        gather=lambda ring, places: ring,
    )


def test_it_says_whose_page_locked_memory_is_used_and_why(
    tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pycuda.install(FakeCuda(monkeypatch), monkeypatch)
    uploads = [
        None,
        HostUpload(GPU, memory=PyCudaMemory(0)),
        HostUpload(GPU, memory=TorchMemory(GPU, reason="PyCUDA is not installed")),
    ]
    said = [describe_runtime(tiny_spec, recogniser(GPU), upload) for upload in uploads]
    assert [(each["staging"], each["staging_reason"]) for each in said] == [
        ("none", "the network runs on the CPU"),
        ("pycuda", ""),
        ("torch", "PyCUDA is not installed"),
    ]
    for each in said:
        Metrics().runtime.labels(**each).set(1)


def test_pycuda_by_name_on_a_cpu_ends_the_start(tiny_spec: ModelSpec) -> None:
    cameras = [{"id": "a", "url": "rtsp://camera/1"}]
    config = StreamConfig.model_validate({"cameras": cameras, "infer": {"staging": "pycuda"}})
    metrics, cpu = Metrics(), torch.device("cpu")
    with pytest.raises(ConfigError, match=r"infer\.staging: pycuda was asked for"):
        build_clip_stage(
            config,
            tiny_spec,
            metrics,
            recogniser(cpu),
            inbox=Inbox(4),
            backlog=Backlog(max_batches=1, max_batch=1),
            ring=build_ring(config, tiny_spec, cpu),
        )
