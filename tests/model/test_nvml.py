"""What NVML says of a GPU, by the real package and a stand-in for the driver's library."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pynvml
import pytest
import torch

from configs import DriverError
from model.nvml import GpuMeter, GpuNames, GpuReading
from tests.support.fake_nvml import NvmlDevice, NvmlLibrary, installed

UUID = "5a1b2c3d-0000-1111-2222-333344445555"
PCI = "00000000:65:00.0"
NAMES = GpuNames(UUID, PCI)
OTHER = NvmlDevice("GPU-ffffffff-0000-1111-2222-333344445555", "00000000:17:00.0")


def test_everything_is_read_from_the_gpu_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(OTHER, NvmlDevice(f"GPU-{UUID}", PCI)), monkeypatch)
    library.devices[0].compute = 99
    meter = GpuMeter(NAMES)
    assert not meter.is_mig
    assert meter.read() == GpuReading(
        compute=0.4,
        memory=0.2,
        decoder=0.75,
        encoder=0.0,
        used_bytes=30 << 30,
        total_bytes=80 << 30,
        process_bytes=12 << 30,
    )
    assert library.is_open == 1
    meter.close()
    assert library.is_open == 0


def test_a_gpu_is_found_by_its_place_on_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = NvmlDevice("GPU-unknown", PCI)
    mine.decoder = 11
    installed(NvmlLibrary(OTHER, mine), monkeypatch)
    assert GpuMeter(NAMES).read().decoder == 0.11


@pytest.mark.parametrize(
    "names",
    [
        GpuNames(UUID, PCI),  # CUDA gives the slice's UUID
        GpuNames("of the whole GPU", PCI, f"MIG-{UUID}"),  # CUDA gives the GPU's
    ],
)
def test_a_slice_is_read_and_not_its_gpu(names: GpuNames, monkeypatch: pytest.MonkeyPatch) -> None:
    part = NvmlDevice(f"MIG-{UUID}")
    part.total, part.used = 10 << 30, 3 << 30
    whole = NvmlDevice("GPU-of the whole GPU", PCI, is_divided=True)
    library = installed(NvmlLibrary(whole, part), monkeypatch)
    for name in ("UtilizationRates", "DecoderUtilization", "EncoderUtilization"):
        library.fails[f"nvmlDeviceGet{name}"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    meter = GpuMeter(names)
    assert meter.is_mig
    assert meter.read() == GpuReading(
        used_bytes=3 << 30, total_bytes=10 << 30, process_bytes=12 << 30
    )


def test_a_divided_gpu_is_refused_if_its_slice_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(NvmlDevice("GPU-x", PCI, is_divided=True)), monkeypatch)
    with pytest.raises(DriverError, match="set CUDA_VISIBLE_DEVICES to the slice's UUID"):
        GpuMeter(NAMES)
    assert library.is_open == 0


def test_a_gpu_that_nvml_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(OTHER), monkeypatch)
    with pytest.raises(DriverError, match=f"NVML knows no GPU GPU-{UUID} {PCI}"):
        GpuMeter(NAMES)
    assert library.is_open == 0


def test_a_gpu_that_may_not_be_opened_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(OTHER), monkeypatch)
    library.fails["nvmlDeviceGetHandleByUUID"] = pynvml.NVML_ERROR_NO_PERMISSION
    with pytest.raises(DriverError, match=r"cannot open MIG-5a1b.*Insufficient Permissions"):
        GpuMeter(NAMES)


def test_clients_of_mps_and_foreign_process_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = NvmlDevice(f"GPU-{UUID}", PCI)
    installed(NvmlLibrary(mine), monkeypatch)
    meter = GpuMeter(NAMES)
    mine.mps_processes, mine.processes = mine.processes, {1: 7}
    assert meter.read().process_bytes == 12 << 30
    mine.mps_processes = {}  # a container that has process numbers of its own
    assert meter.read().process_bytes is None


def test_what_one_question_lacks_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(NvmlDevice(f"GPU-{UUID}", PCI)), monkeypatch)
    meter = GpuMeter(NAMES)
    library.missing = {"nvmlDeviceGetComputeRunningProcesses_v3"}  # an old driver
    library.fails["nvmlDeviceGetDecoderUtilization"] = pynvml.NVML_ERROR_NO_PERMISSION
    reading = meter.read()
    assert (reading.decoder, reading.process_bytes, reading.compute) == (None, None, 0.4)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "GPU is lost"),
        (pynvml.NVML_ERROR_TIMEOUT, "Timeout"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
    ],
)
def test_a_lost_gpu_is_an_error(status: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed(NvmlLibrary(NvmlDevice(f"GPU-{UUID}", PCI)), monkeypatch)
    meter = GpuMeter(NAMES)
    library.fails["nvmlDeviceGetMemoryInfo"] = status
    with pytest.raises(DriverError, match=text):
        meter.read()
    library.fails["nvmlShutdown"] = status
    meter.close()


def test_a_missing_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    # The package looks for the library as it always does, but on a GPU machine finds none either.
    monkeypatch.setattr(pynvml, "CDLL", lambda name: ctypes.CDLL(f"{name}.missing"))
    with pytest.raises(DriverError, match="NVML Shared Library Not Found"):
        GpuMeter(NAMES)


def test_a_missing_package_is_an_error_that_names_it() -> None:
    with pytest.raises(DriverError, match="nvidia-ml-py is not installed"):
        GpuMeter(NAMES, nvml=None)


def test_names_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        uuid=UUID, pci_domain_id=1, pci_bus_id=0x65, pci_device_id=0, name="x"
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, MIG-b")
    assert GpuNames.of(torch.device("cuda", 1)) == GpuNames(UUID, "00000001:65:00.0", "MIG-b")
    assert GpuNames.of(torch.device("cuda", 1)).uuids == ["MIG-b", f"MIG-{UUID}", f"GPU-{UUID}"]
    assert GpuNames.of(torch.device("cuda")).selected == "GPU-a"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    del properties.pci_domain_id
    assert GpuNames.of(torch.device("cuda", 3)) == GpuNames(UUID, "")
