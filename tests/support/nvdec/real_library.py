"""Runs the real PyNvVideoCodec on the stand-in for the driver, in a process of its own.

`python -m tests.support.nvdec.real_library NATIVE_MODULE` writes JSON to stdout. The package itself
cannot be imported without the driver; its native module can be loaded directly.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.dlpack

from configs import CidcError
from model.device_streams import DeviceStream
from model.media.nvdec import NvdecSession, decoder_caps

__all__ = ["accepted_values", "build_driver", "native_module", "run_in_a_process"]

DRIVER = Path(__file__).with_name("driver.c")
STREAM = 0x1234
# functions of the driver that fail, and CUDA's codes: no memory, not supported
FAILURES = (
    ("cuvidCreateDecoder", 801),
    ("cuvidCreateDecoder", 2),
    ("cuMemAlloc", 2),
    ("cuvidDecodePicture", 801),
)


def native_module(suffix: str = "_130") -> Path:
    """Return the file of the library's native part; skip the test where it is not installed."""
    found = importlib.util.find_spec("PyNvVideoCodec")  # does not import it
    if found is None or found.origin is None:
        pytest.skip("PyNvVideoCodec is not installed (it exists for Python 3.11 and 3.12)")
    ending = importlib.machinery.EXTENSION_SUFFIXES[0]
    path = Path(found.origin).with_name(f"PyNvVideoCodec{suffix}{ending}")
    if not path.exists():
        pytest.skip(f"PyNvVideoCodec has no {path.name}")
    return path


def build_driver(folder: Path, native: Path) -> None:
    """Compile the driver's two libraries; skip the test where there are no tools."""
    if not shutil.which("cc") or not shutil.which("nm"):
        pytest.skip("no compiler (cc) or no nm for the stand-in for the driver")
    undefined = subprocess.run(
        ["nm", "-D", "--undefined-only", native], capture_output=True, text=True, check=True
    ).stdout.split()
    names = sorted({name for name in undefined if name.startswith("cu") and name[2].isupper()})
    source = DRIVER.read_text()
    # What the driver does not do fails, as on a machine without a GPU.
    rest = [f"int {name}(void) {{ return 100; }}" for name in names if f" {name}(" not in source]
    (folder / "rest.c").write_text("\n".join(rest))
    libraries = {
        "libcuda.so.1": ["-DCUDA_LIBRARY", str(DRIVER), str(folder / "rest.c")],
        "libnvcuvid.so.1": [str(DRIVER)],
    }
    for name, sources in libraries.items():
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", *sources, "-o", folder / name],
            check=True,
        )


def run_in_a_process(driver: Path, native: Path) -> Any:
    """Run this file; return the library's description, and what came of each step of `_run`.

    A step is its name, its result, and the lines that the driver wrote.
    """
    paths = [str(driver), sysconfig.get_config_var("LIBDIR") or ""]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.nvdec.real_library", native],
        capture_output=True,
        text=True,
        timeout=120,
        env={"LD_LIBRARY_PATH": ":".join(paths), "PATH": "", "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    calls: dict[str, list[str]] = {}
    step = ""
    for line in done.stderr.splitlines():
        if line.startswith("driver: -- "):
            step = line.removeprefix("driver: -- ")
        elif line.startswith("driver: "):
            calls.setdefault(step, []).append(line.removeprefix("driver: "))
    found["steps"] = {name: (result, calls.get(name, [])) for name, result in found["steps"]}
    return found


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("_PyNvVideoCodec", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _describe(module: Any) -> dict[str, Any]:
    """Return the enums, signatures and attributes of the library."""
    found: dict[str, Any] = {"enums": {}, "functions": {}, "methods": {}, "errors": {}}
    for name in dir(module):
        value = getattr(module, name)
        if hasattr(value, "__members__") and isinstance(value, type):
            found["enums"][name] = {key: int(member) for key, member in value.__members__.items()}
        elif isinstance(value, type) and issubclass(value, Exception):
            found["errors"][name] = [base.__name__ for base in value.__mro__[1:]]
        elif isinstance(value, type):
            found["methods"][name] = {
                key: getattr(value, key).__doc__ for key in dir(value) if hasattr(value, key)
            }
        elif callable(value):
            found["functions"][name] = value.__doc__
    found["packet"] = accepted_values(module, module.PacketData())
    return found


def accepted_values(module: Any, packet: Any) -> dict[str, list[bool]]:
    """Tell for each attribute of a packet which kinds of values it takes."""
    tried = (5, module.VideoPacketFlag.ENDOFPICTURE, b"x", -1, 2**63, 2**64)
    found: dict[str, list[bool]] = {}
    for name in [key for key in dir(packet) if not key.startswith("__")]:
        found[name] = []
        for value in tried:
            try:
                setattr(packet, name, value)
                found[name].append(getattr(packet, name) == int(value))
            except TypeError:
                found[name].append(False)
    return found


class _Stream(DeviceStream):
    handle = STREAM  # type: ignore[assignment]


class _Tensor(ctypes.Structure):
    """`DLTensor`, with which a capsule of DLPack starts."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("dimensions", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


def _from_dlpack(frame: Any) -> torch.Tensor:
    """Do what PyTorch does with a frame of a GPU, on the driver's memory."""
    assert frame.__dlpack_device__() == (2, 0)
    take = ctypes.pythonapi.PyCapsule_GetPointer
    take.restype, take.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    capsule = frame.__dlpack__(stream=STREAM)
    tensor = _Tensor.from_address(take(capsule, b"dltensor"))
    shape = tensor.shape[: tensor.dimensions]
    strides = [step * tensor.bits // 8 for step in tensor.strides[: tensor.dimensions]]
    assert (tensor.kind, tensor.lanes, tensor.device_type) == (1, 1, 2)
    dtype = np.dtype(f"u{tensor.bits // 8}")
    memory = (ctypes.c_uint8 * (shape[0] * strides[0])).from_address(tensor.data + tensor.offset)
    return torch.from_numpy(np.ndarray(shape, dtype, memory, strides=strides))


def _run(module: Any) -> list[Any]:
    """Use sessions as a camera does; return what came of each step."""
    torch.utils.dlpack.from_dlpack = _from_dlpack
    found: list[Any] = []

    def note(step: str, action: Any) -> None:
        print(f"driver: -- {step}", file=sys.stderr, flush=True)
        try:
            result = action()
        except CidcError as error:
            result = f"{type(error).__name__}: {error}"
        found.append([step, result])

    for codec in ("h264", "hevc"):
        caps = decoder_caps(module, gpu=0, codec=codec, bit_depth=8)
        note(f"{codec} is supported", lambda caps=caps: [caps.is_supported, caps.engines])
    note("caps", lambda: sorted(module.GetDecoderCaps()))
    for name in ("low", "native"):
        _use_a_session(module, name, note)
    note("ten bits", lambda: _decoded(_session(module, True), (640, 360), 0, depth=10))
    for size in ((321, 180), (320, 181)):
        note(f"odd {size}", lambda size=size: _decoded(_session(module, True), size, 0))
    note("another thread", lambda: _beside_another_thread(module))
    for function, code in FAILURES:
        note(f"{function} {code}", lambda f=function, c=code: _failing(module, f, c))
    note("reuse", lambda: _addresses(module))
    return found


def _use_a_session(module: Any, name: str, note: Callable[[str, Any], None]) -> None:
    """Use a session from its start to its end."""
    made: list[NvdecSession] = []
    note(f"{name} open", lambda: made.append(_session(module, keeps_order=name == "low")))
    (session,) = made
    for tag in range(3):
        note(f"{name} {tag}", lambda tag=tag: _decoded(session, (640, 360), tag))
    note(f"{name} flush", lambda: _shown(session.flush()))
    note(f"{name} resize", lambda: session.resize((320, 180)))
    note(f"{name} resized", lambda: _decoded(session, (320, 180), 3))
    note(f"{name} unannounced", lambda: _decoded(session, (480, 270), 4))
    note(f"{name} largest", lambda: session.resize((1920, 1080)))
    note(f"{name} rest", lambda: _shown(session.flush()))
    note(f"{name} too large", lambda: session.resize((1921, 1089)))
    note(f"{name} other depth", lambda: _decoded(session, (640, 360), 5, depth=10))
    note(f"{name} close", session.close)


def _failing(module: Any, function: str, code: int) -> list[Any]:
    """Decode while a function of the driver fails."""
    session = _session(module, keeps_order=True)
    os.environ.update(NVDEC_FAIL=function, NVDEC_CODE=str(code))
    try:
        return _decoded(session, (640, 360), 0)
    finally:
        del os.environ["NVDEC_FAIL"]


def _addresses(module: Any) -> int:
    """Return the number of different surfaces that hold three frames of three packets."""
    decoder = module.CreateDecoder(
        cudastream=STREAM, usedevicememory=True, latency=module.DisplayDecodeLatencyType.LOW
    )
    found = set()
    for tag in range(3):
        packet = module.PacketData()
        data = np.frombuffer(struct.pack("<HHBBH", 640, 360, 8, tag, 0), np.uint8)
        packet.bsl_data, packet.bsl = data.ctypes.data, len(data)
        packet.decode_flag = module.VideoPacketFlag.ENDOFPICTURE
        (frame,) = decoder.Decode(packet)
        found.add(frame.GetPtrToPlane(0))
    return len(found)


def _session(module: Any, keeps_order: bool) -> NvdecSession:
    return NvdecSession(
        module,
        codec="h264",
        gpu=0,
        max_size=(1920, 1080),
        keeps_order=keeps_order,
        stream=_Stream(torch.device("cpu")),
    )


def _decoded(session: NvdecSession, size: tuple[int, int], tag: int, depth: int = 8) -> list[Any]:
    return _shown(session.decode(struct.pack("<HHBBH", *size, depth, 100 + tag, 0), tag))


def _shown(surfaces: Any) -> list[Any]:
    """Return tag, size and the only value of each surface."""
    found = []
    for surface in surfaces:
        values = np.unique(surface.samples.numpy())
        assert len(values) == 1
        found.append([surface.tag, surface.width, surface.height, int(values[0])])
    return found


def _beside_another_thread(module: Any) -> list[Any]:
    """Decode a packet that ends only when another Python thread has run."""
    library = ctypes.CDLL("libnvcuvid.so.1")
    session = _session(module, keeps_order=True)
    library.nvdec_gate(0)
    thread = threading.Timer(0.05, library.nvdec_gate, (1,))
    thread.start()
    frames = _decoded(session, (640, 360), 0)
    thread.join()
    return frames


if __name__ == "__main__":
    library = _load(sys.argv[1])
    print(json.dumps({"library": _describe(library), "steps": _run(library)}))
