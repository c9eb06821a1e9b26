"""The watch of the GPU: gauges, the summary's section, drivers that fail and drivers that hang."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pynvml
import pytest
import torch
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from configs import DriverError
from model.nvml import GpuMeter, GpuNames
from stream import gpu_watch
from stream.gpu_watch import GpuWatch, UseLog
from stream.metrics import Metrics
from tests.support.fake_nvml import NvmlDevice, NvmlLibrary, installed
from tests.support.waiting import until

GPU = torch.device("cuda", 0)
NAMES = GpuNames("u", "p")


def shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    """What a scrape says of the GPU."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name.removeprefix("cidc_gpu_"), *sample.labels.values()): sample.value
        for family in families
        if family.name.startswith("cidc_gpu_")
        for sample in family.samples
    }


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> NvmlLibrary:
    return installed(NvmlLibrary(NvmlDevice("GPU-u", "p")), monkeypatch)


@pytest.fixture
def watch(library: NvmlLibrary) -> Iterator[GpuWatch]:
    """A watch that reads all the time."""
    made = GpuWatch(GPU, Metrics(), open_meter=lambda: GpuMeter(NAMES), period_seconds=0.001)
    made._metrics.before_scrape.append(made.show)
    made.start()
    yield made
    made.close()
    assert not made.is_alive
    assert made.failure is None
    assert library.is_open == 0


def test_gauges_follow_the_gpu_and_go_with_the_watch(watch: GpuWatch, library: NvmlLibrary) -> None:
    expected = {
        ("utilization_ratio", "compute"): 0.4,
        ("utilization_ratio", "decoder"): 0.75,
        ("utilization_ratio", "encoder"): 0.0,
        ("utilization_ratio", "memory"): 0.2,
        ("memory_bytes", "used"): float(30 << 30),
        ("memory_bytes", "total"): float(80 << 30),
        ("memory_bytes", "process"): float(12 << 30),
    }
    until(lambda: shown(watch._metrics) == expected)
    library.devices[0].decoder = 100
    library.devices[0].processes = {}
    del expected["memory_bytes", "process"]
    until(lambda: shown(watch._metrics) == expected | {("utilization_ratio", "decoder"): 1.0})
    watch.close()
    assert shown(watch._metrics) == {}


def test_a_driver_that_fails_is_said_once_and_may_recover(
    watch: GpuWatch, library: NvmlLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    until(lambda: shown(watch._metrics) != {})
    library.fails["nvmlDeviceGetMemoryInfo"] = pynvml.NVML_ERROR_GPU_IS_LOST
    until(lambda: shown(watch._metrics) == {})
    until(lambda: (watch.summary() or {})["problem"] == "NVML: GPU is lost")
    library.fails.clear()
    until(lambda: shown(watch._metrics) != {})
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "the use of the GPU is not shown until the driver answers",
        "the GPU's driver answers again",
    ]
    assert (watch.summary() or {})["problem"] is None


class HangingMeter:
    """Answers once, then never until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.reads = 0

    def read(self) -> Any:
        """Hang from the second time on."""
        self.reads += 1
        if self.reads > 1:
            self.released.wait(30)
        return gpu_watch.GpuReading(decoder=0.5)

    def close(self) -> None:
        """Do nothing."""


def test_a_driver_that_hangs_is_said_once_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meter: Any = HangingMeter()
    monkeypatch.setattr(gpu_watch, "_STALE_SECONDS", 0.2)
    monkeypatch.setattr(gpu_watch, "_CLOSE_SECONDS", 0.01)
    watch = GpuWatch(GPU, Metrics(), open_meter=lambda: meter, period_seconds=0.001)
    watch._metrics.before_scrape.append(watch.show)
    watch.start()
    until(lambda: meter.reads == 2)
    until(lambda: shown(watch._metrics) == {} and bool(caplog.messages))
    assert shown(watch._metrics) == {}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the GPU's driver has not answered for")
    assert (watch.summary() or {})["problem"] == "the driver hangs"
    watch.close()  # does not wait for the driver
    assert watch.is_alive
    meter.released.set()
    assert watch.join(10)
    assert watch.failure is None


def test_without_nvml_the_reason_is_said_and_the_pipeline_runs_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def missing() -> GpuMeter:
        raise DriverError("no such library")

    watch = GpuWatch(GPU, Metrics(), open_meter=missing)
    watch.start()
    assert watch.join(10)
    assert watch.failure is None
    assert caplog.messages == ["the use of the GPU is not shown: no such library"]
    assert shown(watch._metrics) == {}
    section = watch.summary()
    assert section is not None
    assert section["problem"] == "no such library"
    assert section["use"] == {}


def test_without_a_gpu_nothing_is_watched() -> None:
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        watch = GpuWatch.on(torch.device("cpu"), metrics, stack)
        assert not watch.is_alive
        assert shown(metrics) == {}
        assert watch.summary() is None


def test_a_pipelines_gpu_is_watched_until_its_end(
    library: NvmlLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GpuNames, "of", lambda device: NAMES)
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        watch = GpuWatch.on(GPU, metrics, stack)
        until(lambda: shown(metrics).get(("utilization_ratio", "decoder")) == 0.75)
    assert not watch.is_alive
    assert shown(metrics) == {}


def test_the_section_has_means_percentiles_and_peaks(library: NvmlLibrary) -> None:
    device = library.devices[0]
    metrics = Metrics()
    registry = metrics.registry
    known: dict[str, Any] = registry._names_to_collectors
    decoders = known.get("cidc_open_decoders") or Gauge(
        "cidc_open_decoders", "x", ["kind"], registry=registry
    )
    fallbacks = known.get("cidc_decoder_fallbacks") or Counter(
        "cidc_decoder_fallbacks", "x", ["reason"], registry=registry
    )
    watch = GpuWatch(GPU, metrics)
    meter = GpuMeter(NAMES)
    for percent in range(1, 101):
        device.decoder, device.compute = percent, 30
        device.processes = {}
        if percent == 50:
            device.used = 40 << 30
            decoders.labels("nvdec").set(64)
            fallbacks.labels("codec").inc(3)
            device.processes = {**NvmlDevice("").processes}
        watch._read(meter)
        device.used = 1 << 30
        decoders.labels("nvdec").set(0)
    meter.close()
    assert watch.summary() == {
        "use": {
            "compute": {"mean": 0.3, "p95": 0.3},
            "decoder": {"mean": 0.505, "p95": 0.95},
            "encoder": {"mean": 0.0, "p95": 0.0},
            "memory": {"mean": 0.2, "p95": 0.2},
        },
        "memory_bytes": {"total": 80 << 30, "used_peak": 40 << 30, "process_peak": 12 << 30},
        "open_decoders_peak": {"nvdec": 64},
        "decoder_fallbacks": {"codec": 3},
        "problem": None,
    }


def test_percentiles_are_by_nearest_rank() -> None:
    log = UseLog()
    assert log.describe() is None
    for use in (0.1, 0.2, 0.3):
        log.add(use)
    assert log.describe() == {"mean": 0.2, "p95": 0.3}
    for _ in range(57):  # 60 in all: the rank is 57
        log.add(0.05)
    described = log.describe()
    assert described is not None
    assert described["p95"] == 0.05
    log.add(0.9)  # 61: the rank is 58
    assert (log.describe() or {})["p95"] == 0.1
