"""How busy a GPU is, and how full its memory, as NVIDIA's management library (NVML) says.

NVML numbers GPUs in its own order and does not know `CUDA_VISIBLE_DEVICES`, so a GPU is found by
its UUID or by its place on the PCI bus, never by its number. The package `nvidia-ml-py` (module
`pynvml`, extra `gpu`) is imported here and nowhere else.

This module has not run on a GPU yet; tests replace the library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import torch

from configs import DriverError

try:
    import pynvml
except ImportError:  # the extra `gpu` is not installed
    pynvml = None

__all__ = ["GpuMeter", "GpuNames", "GpuReading"]


@dataclasses.dataclass(frozen=True)
class GpuNames:
    """Names by which NVML may know a CUDA device.

    Attributes:
        uuid: as CUDA gives it, without `GPU-` or `MIG-`.
        pci: place on the PCI bus, such as `00000000:65:00.0`; empty if PyTorch does not say it.
        selected: what `CUDA_VISIBLE_DEVICES` says for the device, empty if it says nothing.
    """

    uuid: str
    pci: str
    selected: str = ""

    @classmethod
    def of(cls, device: torch.device) -> GpuNames:
        """Ask PyTorch for the names of a CUDA device."""
        properties: Any = torch.cuda.get_device_properties(device)
        pci = ""
        if hasattr(properties, "pci_domain_id"):
            bus, place = properties.pci_bus_id, properties.pci_device_id
            pci = f"{properties.pci_domain_id:08x}:{bus:02x}:{place:02x}.0"
        selected = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        number = device.index or 0
        mine = selected[number].strip() if number < len(selected) else ""
        return cls(str(properties.uuid), pci, mine)

    @property
    def uuids(self) -> list[str]:
        """UUIDs to try. A slice of a GPU (MIG) comes before the GPU that it is a part of."""
        bare = self.uuid.removeprefix("GPU-").removeprefix("MIG-")
        selected = [self.selected] if self.selected.startswith("MIG-") else []
        return [*selected, f"MIG-{bare}", f"GPU-{bare}"]


@dataclasses.dataclass(frozen=True)
class GpuReading:
    """What NVML says at one moment; None where it does not say it.

    Attributes:
        compute: fraction of the time in which a kernel ran.
        memory: fraction of the time in which memory was read or written.
        decoder, encoder: mean use of the engines that decode and encode video, from 0 to 1.
        used_bytes, total_bytes: memory of the GPU, or of the slice of it.
        process_bytes: memory that this process uses.
    """

    compute: float | None = None
    memory: float | None = None
    decoder: float | None = None
    encoder: float | None = None
    used_bytes: int | None = None
    total_bytes: int | None = None
    process_bytes: int | None = None


class GpuMeter:
    """Asks NVML about one GPU; one thread uses it. Close it at the end.

    Args:
        names: of the GPU.
        nvml: the module `pynvml`, or a stand-in.

    Attributes:
        is_mig: whether the device is a slice of a GPU (MIG). NVML does not know its use.

    Raises:
        DriverError: the package or NVIDIA's library is missing, or NVML does not find the GPU.
    """

    def __init__(self, names: GpuNames, *, nvml: Any = pynvml) -> None:
        if nvml is None:
            raise DriverError("nvidia-ml-py is not installed (pip install 'cidc-stream[gpu]')")
        self._nvml = nvml
        # NVML has no answer for this device, this driver or this user, and gives one to the rest.
        self._unavailable = (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_NoData,
            nvml.NVMLError_InsufficientSize,  # processes came between two of NVML's calls
            nvml.NVMLLibraryMismatchError,
        )
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise DriverError(f"NVML cannot be used: {error}") from None
        try:
            self._device, self.is_mig = self._find(names)
        except DriverError:
            self.close()
            raise

    def read(self) -> GpuReading:
        """Ask for everything.

        Raises:
            DriverError: the driver does not answer, or the GPU is lost.
        """
        nvml = self._nvml
        use = self._ask(nvml.nvmlDeviceGetUtilizationRates, self._device)
        decoder = self._ask(nvml.nvmlDeviceGetDecoderUtilization, self._device)
        encoder = self._ask(nvml.nvmlDeviceGetEncoderUtilization, self._device)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, self._device)
        return GpuReading(
            compute=None if use is None else use.gpu / 100,
            memory=None if use is None else use.memory / 100,
            decoder=None if decoder is None else decoder[0] / 100,
            encoder=None if encoder is None else encoder[0] / 100,
            used_bytes=None if memory is None else memory.used,
            total_bytes=None if memory is None else memory.total,
            process_bytes=self._process_bytes(),
        )

    def close(self) -> None:
        """Let the library go; other users of it in this process are not affected."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _process_bytes(self) -> int | None:
        """Return the memory of this process; None in a container that has its own process IDs."""
        lists = (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetMPSComputeRunningProcesses,
        )
        for list_processes in lists:
            for process in self._ask(list_processes, self._device) or ():
                if process.pid == os.getpid() and process.usedGpuMemory is not None:
                    return int(process.usedGpuMemory)
        return None

    def _find(self, names: GpuNames) -> tuple[Any, bool]:
        nvml = self._nvml
        ways = [(nvml.nvmlDeviceGetHandleByUUID, uuid) for uuid in names.uuids]
        if names.pci:
            ways.append((nvml.nvmlDeviceGetHandleByPciBusId, names.pci))
        for find, name in ways:
            try:
                device = find(name)
            except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
                continue
            except nvml.NVMLError as error:
                raise DriverError(f"NVML cannot open {name}: {error}") from None
            if name.startswith("MIG-"):
                return device, True
            self._check_whole(device, name)
            return device, False
        raise DriverError(f"NVML knows no GPU {names.uuids[-1]} {names.pci}")

    def _check_whole(self, device: Any, name: str) -> None:
        """Refuse a GPU that is divided: its numbers are not those of the slice in use."""
        mode = self._ask(self._nvml.nvmlDeviceGetMigMode, device)
        if mode is not None and mode[0] == self._nvml.NVML_DEVICE_MIG_ENABLE:
            raise DriverError(
                f"the GPU {name} is divided (MIG), and NVML does not tell which slice is used;"
                " set CUDA_VISIBLE_DEVICES to the slice's UUID (nvidia-smi -L)"
            )

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call NVML; None if it has no answer to this question.

        Raises:
            DriverError: another error, which concerns all questions.
        """
        try:
            return function(*arguments)
        except self._unavailable:
            return None
        except self._nvml.NVMLError as error:
            raise DriverError(f"NVML: {error}") from None
