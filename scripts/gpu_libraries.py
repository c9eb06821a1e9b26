"""A part of the GPU check: does every library of the driver and of CUDA load and work?"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection

import torch

__all__ = ["check_libraries", "cudnn_line"]

_DRIVER_LIBRARIES = {
    "libcuda.so.1": "the driver",
    # Containers have it only if NVIDIA_DRIVER_CAPABILITIES names `video`.
    "libnvcuvid.so.1": "decodes video",
    "libnvidia-ml.so.1": "tells about GPUs",
}


def check_libraries(without: Collection[str]) -> None:
    """Print a line about each library.

    Args:
        without: packages that this machine need not have.

    Raises:
        AssertionError: a library does not load or work.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        (f"{name} ({meaning})", lambda name=name: _load(name))  # type: ignore[misc]
        for name, meaning in _DRIVER_LIBRARIES.items()
    ]
    checks += [
        ("PyTorch", _pytorch),
        ("cuDNN", _cudnn),
        ("CuPy compiles and runs a kernel", _cupy),
        ("engines that decode video", _engines),
    ]
    if "dali" not in without:
        checks.append(("DALI runs a graph", _dali))
    failed = []
    for name, check in checks:
        try:
            print(f"- {name}: {check()}")
        except Exception as error:
            print(f"- {name}: FAILED, {type(error).__name__}: {str(error).splitlines()[0]}")
            failed.append(name)
    assert not failed, f"these do not work: {', '.join(failed)}"


def cudnn_line(version: int | None) -> str:
    """Return cuDNN's version as text, with a warning where its 3D convolutions are in doubt.

    Args:
        version: as `torch.backends.cudnn.version()` returns it, such as 91002 for 9.10.2; None if
            PyTorch has no cuDNN.
    """
    if version is None:
        return "WARNING: PyTorch has no cuDNN; convolutions will be slow"
    major, minor, patch = version // 10_000, version // 100 % 100, version % 100
    text = f"{major}.{minor}.{patch}"
    if (9, 8) <= (major, minor) <= (9, 14):
        text += (
            "; WARNING: in some versions from 9.8 to 9.14, 3D convolutions are off, and PyTorch"
            " computes them by slower code; install nvidia-cudnn-cu13 9.15 or newer"
        )
    return text


def _load(name: str) -> str:
    ctypes.CDLL(name)
    return "loads"


def _pytorch() -> str:
    values = torch.arange(1000, device="cuda")
    assert int(values.sum()) == 499_500, "a sum on the GPU is wrong"
    return f"{torch.__version__}, built for CUDA {torch.version.cuda}, adds up"


def _cudnn() -> str:
    network = torch.nn.Conv3d(3, 16, 3).cuda().bfloat16()
    assert torch.isfinite(network(torch.ones(1, 3, 8, 16, 16, device="cuda").bfloat16())).all()
    return cudnn_line(torch.backends.cudnn.version())


def _cupy() -> str:
    import cupy

    double = cupy.ElementwiseKernel("float32 x", "float32 y", "y = 2 * x", "double_it")
    assert float(double(cupy.ones(10, cupy.float32)).sum()) == 20.0, "the kernel is wrong"
    runtime = cupy.cuda.runtime
    return f"{cupy.__version__}, driver {runtime.driverGetVersion()}"


def _engines() -> str:
    from model.media.decoder_engines import decoder_engines

    return str(decoder_engines(torch.device("cuda", torch.cuda.current_device())))


def _dali() -> str:
    import numpy as np
    import nvidia.dali

    from model.media.preprocess import PreprocessConfig, Preprocessor

    framing = PreprocessConfig(short_side=32, height=32, width=32)
    grey = np.full((2, 64, 64, 3), 90, np.uint8)
    found = Preprocessor(framing, max_batch=1, device="gpu")([grey])
    assert bool((found == 90).all()), "a grey frame did not stay grey"
    return str(nvidia.dali.__version__)
