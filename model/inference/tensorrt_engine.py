"""Runs the network as a TensorRT engine, built from the ONNX export and kept in a cache.

This has not run on a GPU yet.

Letters: B clips, C channels, T frames, H and W space, K classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model.checkpoints.export import INPUT_NAME, OUTPUT_NAME
from model.inference.engine import BatchRun, EngineName, check_clips
from model.inference.engine_cache import EngineCache, EngineKey
from model.inference.tensorrt_library import build_plan, open_runtime

__all__ = ["TensorRTEngine"]

_log = logging.getLogger(__name__)


class TensorRTEngine:
    """Loads or builds the engine, and runs it on PyTorch's current stream.

    Args:
        trt: the module from `tensorrt_module`.
        make_onnx: returns the ONNX file of the network; called only if no engine is stored.
        make_key: returns the key of the engine for a `max_batch`.
        shape_CTHW: shape of a clip.
        classes: number of classes.
        device: device of the clips.
        cache: where engines are stored.
    """

    name: EngineName = "tensorrt"
    sizes: tuple[int, ...] = ()

    def __init__(
        self,
        trt: Any,
        *,
        make_onnx: Callable[[], bytes],
        make_key: Callable[[int], EngineKey],
        shape_CTHW: tuple[int, int, int, int],
        classes: int,
        device: torch.device,
        cache: EngineCache,
    ) -> None:
        self._trt = trt
        self._runtime = open_runtime(trt)
        self._make_onnx = make_onnx
        self._make_key = make_key
        self._shape_CTHW = shape_CTHW
        self._classes = classes
        self._device = device
        self._cache = cache
        self._max_batch = 0
        self._dtype = torch.float32
        self._engine: Any = None
        self._context: Any = None
        self.memory_bytes = 0

    def prepare(self, max_batch: int) -> None:
        """Load the engine for this `max_batch` from the cache, or build and store it.

        A build takes minutes. A call with the same or a smaller `max_batch` does nothing.

        Raises:
            KernelError: TensorRT does not accept the network, or cannot build it on this device.
            CidcError: the packages of the extra `onnx` are not installed.
        """
        if max_batch <= self._max_batch:
            return
        key = self._make_key(max_batch)
        plan = self._cache.load(key)
        engine = None
        if plan is not None:
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                path = self._cache.path(key)
                _log.warning("TensorRT does not load %s; the engine is built again", path)
        if engine is None:
            plan, engine = self._built(key)
        assert plan is not None
        self._use(engine, len(plan))
        self._max_batch = max_batch

    def plan(self, clips: int) -> BatchRun:
        """Return that a batch runs in its own size."""
        return BatchRun("tensorrt", clips)

    @torch.inference_mode()
    def __call__(self, clips_BCTHW: Tensor) -> Tensor:
        """Map normalised clips to `logits_BK` in float32.

        Raises:
            ShapeError: the clips have another shape, or are more than `max_batch`.
            KernelError: TensorRT did not start the work.
        """
        check_clips(clips_BCTHW, self._shape_CTHW)
        count = len(clips_BCTHW)
        if count > self._max_batch:
            raise ShapeError(
                f"the engine was built for at most {self._max_batch} clips, got {count}"
            )
        # Engines take planar memory. Memory of both tensors is freed in the order of the stream, so
        # it is not used again before the engine has finished.
        planar_BCTHW = clips_BCTHW.to(self._dtype).contiguous()
        logits_BK = torch.empty(count, self._classes, dtype=torch.float32, device=self._device)
        context = self._context
        done = (
            context.set_input_shape(INPUT_NAME, tuple(planar_BCTHW.shape))
            and context.set_tensor_address(INPUT_NAME, planar_BCTHW.data_ptr())
            and context.set_tensor_address(OUTPUT_NAME, logits_BK.data_ptr())
            and context.execute_async_v3(_stream_handle(self._device))
        )
        if not done:
            raise KernelError(f"TensorRT did not run a batch of {count} clips; see the log")
        return logits_BK

    def _built(self, key: EngineKey) -> tuple[bytes, Any]:
        _log.info(
            "building the TensorRT engine for at most %d clips; this takes minutes", key.max_batch
        )
        started_at = time.monotonic()
        plan = build_plan(
            self._trt, self._make_onnx(), shape_CTHW=self._shape_CTHW, max_batch=key.max_batch
        )
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise KernelError("TensorRT does not load the engine that it built; see the log")
        self._cache.store(key, plan)
        _log.info("built the TensorRT engine in %.0f s", time.monotonic() - started_at)
        return plan, engine

    def _use(self, engine: Any, plan_bytes: int) -> None:
        """Create the context, and read which number formats the engine takes and gives."""
        types = {
            self._trt.DataType.FLOAT: torch.float32,
            self._trt.DataType.HALF: torch.float16,
            self._trt.DataType.BF16: torch.bfloat16,
        }
        dtypes = [types.get(engine.get_tensor_dtype(name)) for name in (INPUT_NAME, OUTPUT_NAME)]
        context = engine.create_execution_context()
        if dtypes[0] is None or dtypes[1] is not torch.float32 or context is None:
            raise KernelError(
                "the TensorRT engine cannot be used: it needs floating-point clips, logits in"
                " float32, and memory for one context"
            )
        self._dtype = dtypes[0]
        # The context refers to the engine without keeping it.
        self._engine, self._context = engine, context
        self.memory_bytes = plan_bytes + int(engine.device_memory_size_v2)


def _stream_handle(device: torch.device) -> int:
    """Return the address of PyTorch's current stream; tests run on the CPU, without streams."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0
