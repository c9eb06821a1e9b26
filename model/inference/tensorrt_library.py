"""TensorRT: whether it can be used here, and building engines with it.

This is the only file that imports the package. It has not run on a GPU yet; tests use a fake, whose
calls are compared with the signatures of the real package (TensorRT 10.16 and 11.4).

Letters: C channels, T frames, H and W space.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

from configs import ConfigError, KernelError
from model.checkpoints.export import INPUT_NAME

__all__ = ["build_plan", "open_runtime", "tensorrt_module", "why_not_tensorrt"]

_log = logging.getLogger(__name__)
_OLDEST = (10, 13)  # the first release for CUDA 13


def why_not_tensorrt() -> str:
    """Return why TensorRT cannot be used in this process; the text is empty if it can."""
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:
        if getattr(error, "name", None) == "tensorrt":
            return "TensorRT is not installed"
        return f"TensorRT cannot be loaded: {error}"
    except OSError as error:
        return f"TensorRT cannot be loaded: {error}"
    version = str(getattr(trt, "__version__", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return "" if numbers >= _OLDEST else f"TensorRT {version} is older than 10.13"


def tensorrt_module() -> Any:
    """Return the package.

    Raises:
        ConfigError: TensorRT cannot be used here; the message has the remedy.
    """
    if reason := why_not_tensorrt():
        raise ConfigError(
            f"infer.engine: tensorrt was asked for, but {reason}; install the extra: pip install"
            " 'cidc-stream[tensorrt]', or use auto"
        )
    return importlib.import_module("tensorrt")


def build_plan(
    trt: Any, onnx: bytes, *, shape_CTHW: tuple[int, int, int, int], max_batch: int
) -> bytes:
    """Build an engine for batches of 1 to `max_batch` clips; return it in TensorRT's own format.

    The number formats are those of the ONNX graph (TensorRT calls this strong typing). Tactics are
    chosen for full batches, because a busy machine runs those.

    Raises:
        KernelError: TensorRT does not accept the graph, or cannot build it on this device.
    """
    logger = _logger(trt)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        reasons = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise KernelError(f"TensorRT does not accept the network: {'; '.join(reasons)}")
    profile = builder.create_optimization_profile()
    smallest, largest = ((batch, *shape_CTHW) for batch in (1, max_batch))
    profile.set_shape(INPUT_NAME, smallest, largest, largest)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise KernelError("TensorRT could not build the network; its messages are in the log")
    return bytes(plan)


def open_runtime(trt: Any) -> Any:
    """Return the object that loads engines; it must live at least as long as they do."""
    return trt.Runtime(_logger(trt))


def _logger(trt: Any) -> Any:
    """Return an object that passes TensorRT's messages to our log."""
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            # Python classes that extend native ones must call their constructor by name.
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            _log.log(levels.get(severity, logging.DEBUG), "TensorRT: %s", msg)

    return Logger()
