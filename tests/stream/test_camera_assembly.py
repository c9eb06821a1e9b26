"""What decodes the cameras of a pipeline, and what cannot."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from configs import ConfigError, MediaError
from stream import camera_assembly
from stream.camera_assembly import CameraDecoders, check_decoders, nvdec_problem
from stream.cameras.config import CameraConfig
from stream.config import StreamConfig
from stream.gpu_watch import GpuWatch
from stream.ingest.config import SourceConfig
from stream.ingest.decoder_pool import DecoderPool
from stream.metrics import Metrics
from tests.support.fake_nvc import FakeNvc
from tests.support.pipelines import config_for

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.fixture
def config(tiny_weights: Path, tmp_path: Path) -> StreamConfig:
    return config_for(tiny_weights, tmp_path, {"a": tmp_path / "a.mp4"})


def camera(decoder: str) -> CameraConfig:
    source = SourceConfig.model_validate({"decoder": decoder})
    return CameraConfig.model_validate({"id": "x", "url": "rtsp://h/x", "source": source})


def test_only_what_was_asked_for_by_name_must_be_there(config: StreamConfig) -> None:
    for decoder in ("auto", "dali", "software"):
        check_decoders(config, [camera(decoder)], nvdec_problem(CPU))
    with pytest.raises(
        ConfigError, match=r"camera x: source\.decoder: nvdec cannot be used: the ne"
    ):
        check_decoders(config, [camera("nvdec")], nvdec_problem(CPU))


def test_the_message_has_the_reason_of_the_library(
    config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_assembly, "why_not_nvdec", lambda: "the driver is too old")
    with pytest.raises(ConfigError, match=r"the driver is too old\. Install .*capability video"):
        check_decoders(config, [camera("nvdec")], nvdec_problem(GPU))
    nvc = FakeNvc()
    monkeypatch.setattr(camera_assembly, "why_not_nvdec", lambda: "")
    monkeypatch.setattr(camera_assembly, "nvdec_module", lambda: nvc)
    check_decoders(config, [camera("nvdec")], nvdec_problem(GPU))


def test_a_driver_that_does_not_answer_is_found_before_a_run(
    config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(FakeNvc):
        def GetDecoderCaps(self, *given: object, **named: object) -> dict[str, int]:  # noqa: N802
            raise RuntimeError("cuInit failed")

    nvc = Silent()
    monkeypatch.setattr(camera_assembly, "why_not_nvdec", lambda: "")
    monkeypatch.setattr(camera_assembly, "nvdec_module", lambda: nvc)
    with pytest.raises(ConfigError, match=r"GPU 0 does not say .*cuInit failed"):
        check_decoders(config, [camera("nvdec")], nvdec_problem(GPU))


def test_cameras_that_come_later_are_checked_too(config: StreamConfig) -> None:
    with contextlib.ExitStack() as stack:
        decoders = CameraDecoders(config, config.cameras, CPU, Metrics(), stack)
        assert decoders.pool is None
        decoders.check(camera("auto"))
        with pytest.raises(ConfigError, match="nvdec cannot be used"):
            decoders.check(camera("nvdec"))


def test_the_pool_is_shown_and_closed(
    config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvc = FakeNvc()
    monkeypatch.setattr(
        camera_assembly, "open_pool", lambda device: DecoderPool(nvc, device, lanes=1)
    )
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        decoders = CameraDecoders(config, [camera("nvdec")], CPU, metrics, stack)
        decoders.check(camera("nvdec"))
        assert decoders.pool is not None
        seat = decoders.pool.take_seat()
        seat.open(codec="h264", max_size=(64, 64), keeps_order=True)
        watch = GpuWatch(GPU, metrics)
        watch._note_open_decoders()  # also where nobody scrapes
        assert (watch.summary() or {})["open_decoders_peak"] == {"nvdec": 1}
        assert 'cidc_open_decoders{kind="nvdec"} 1.0' in metrics.exposition().decode()
    assert nvc.open == 0
    assert 'cidc_open_decoders{kind="nvdec"} 0.0' in metrics.exposition().decode()


def test_a_driver_that_does_not_answer_matters_only_by_name(
    config: StreamConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: torch.device) -> DecoderPool:
        raise MediaError("the driver does not answer")

    monkeypatch.setattr(camera_assembly, "open_pool", refuse)
    with contextlib.ExitStack() as stack:
        assert CameraDecoders(config, config.cameras, CPU, Metrics(), stack).pool is None
        with pytest.raises(ConfigError, match="the driver does not answer"):
            CameraDecoders(config, [camera("nvdec")], CPU, Metrics(), stack)
