"""A stand-in for NVIDIA's library `libnvidia-ml.so.1`, called by the real package `pynvml`.

The package passes what the library's header says: handles, and pointers that the library fills in.
So a wrong name, signature or structure in our code, or here, fails in the package.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pynvml
import pytest

__all__ = ["NvmlDevice", "NvmlLibrary", "installed"]


class NvmlDevice:
    """What the driver knows of one GPU, or of one slice of it; uses are in percent."""

    def __init__(self, uuid: str, pci: str = "", *, is_divided: bool = False) -> None:
        self.uuid = uuid
        self.pci = pci
        self.is_divided = is_divided
        self.compute, self.memory, self.decoder, self.encoder = 40, 20, 75, 0
        self.used, self.total = 30 << 30, 80 << 30
        self.processes: dict[int, int] = {os.getpid(): 12 << 30, 1: 5 << 30}
        self.mps_processes: dict[int, int] = {}


class NvmlLibrary:
    """Has the functions of the library that are asked for; every one returns a status.

    Attributes:
        fails: status of functions by name, instead of an answer.
        missing: functions that this driver does not have.
        is_open: how many users have not shut it down.
    """

    def __init__(self, *devices: NvmlDevice) -> None:
        self.devices = devices
        self.fails: dict[str, int] = {}
        self.missing: set[str] = set()
        self.is_open = 0

    def __getattr__(self, name: str) -> Any:
        bare = name.removesuffix("_v2").removesuffix("_v3")
        answer = type(self).__dict__.get("_" + bare)
        if answer is None or name in self.missing:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            if (status := self.fails.get(bare)) is not None:
                return status
            return answer(self, *arguments) or pynvml.NVML_SUCCESS

        return function

    def _nvmlInitWithFlags(self, flags: int) -> None:  # noqa: N802 - the library's name
        self.is_open += 1

    def _nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open -= 1

    def _nvmlErrorString(self, status: int) -> bytes:  # noqa: N802
        return f"status {status}".encode()

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> int | None:  # noqa: N802
        return self._find("uuid", uuid, handle)

    def _nvmlDeviceGetHandleByPciBusId(self, pci: Any, handle: Any) -> int | None:  # noqa: N802
        return self._find("pci", pci, handle)

    def _nvmlDeviceGetMigMode(self, handle: Any, now: Any, pending: Any) -> None:  # noqa: N802
        now._obj.value = pending._obj.value = int(self._at(handle).is_divided)

    def _nvmlDeviceGetUtilizationRates(self, handle: Any, use: Any) -> None:  # noqa: N802
        use._obj.gpu, use._obj.memory = self._at(handle).compute, self._at(handle).memory

    def _nvmlDeviceGetDecoderUtilization(self, handle: Any, use: Any, period: Any) -> None:  # noqa: N802
        use._obj.value, period._obj.value = self._at(handle).decoder, 166_667

    def _nvmlDeviceGetEncoderUtilization(self, handle: Any, use: Any, period: Any) -> None:  # noqa: N802
        use._obj.value, period._obj.value = self._at(handle).encoder, 166_667

    def _nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> None:  # noqa: N802
        memory._obj.used, memory._obj.total = self._at(handle).used, self._at(handle).total

    def _nvmlDeviceGetComputeRunningProcesses(self, handle: Any, count: Any, into: Any) -> int:  # noqa: N802
        return _fill(self._at(handle).processes, count, into)

    def _nvmlDeviceGetMPSComputeRunningProcesses(self, handle: Any, count: Any, into: Any) -> int:  # noqa: N802
        return _fill(self._at(handle).mps_processes, count, into)

    def _find(self, attribute: str, name: ctypes.c_char_p, handle: Any) -> int | None:
        for number, device in enumerate(self.devices, 1):
            if getattr(device, attribute) == (name.value or b"").decode():
                # a handle is an opaque pointer
                address = ctypes.c_void_p(number)
                ctypes.memmove(ctypes.addressof(handle._obj), ctypes.byref(address), 8)
                return None
        return int(pynvml.NVML_ERROR_NOT_FOUND)

    def _at(self, handle: Any) -> NvmlDevice:
        return self.devices[(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1]


def _fill(processes: dict[int, int], count: Any, into: Any) -> int:
    """Answer as the library does: the size first, then the list."""
    room, count._obj.value = count._obj.value, len(processes)
    if room < len(processes):
        return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
    for place, (pid, used) in enumerate(processes.items()):
        into[place].pid, into[place].usedGpuMemory = pid, used
    return 0


def installed(library: NvmlLibrary, patch: pytest.MonkeyPatch) -> NvmlLibrary:
    """Put the stand-in where the package keeps the library that it has loaded."""
    patch.setattr(pynvml, "nvmlLib", library)
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library
