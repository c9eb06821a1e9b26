"""Builds DALI's graphs when they are first needed, runs them, and drops those that failed."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.utils.dlpack
from torch import Tensor

from configs import ConfigError, DeviceMemoryError
from model.device_streams import DeviceEvent
from model.media.dali_errors import is_out_of_memory, reason_of
from model.media.dali_library import load_dali_graphs

__all__ = ["DaliRunner"]

_MAX_RUNS_UNDER_WAY = 4


class DaliRunner:
    """Runs the graphs of `dali_graph` on one device.

    On the CPU a run is done when it returns, and the next run of the same graph overwrites its
    result. These settings have no threads that hand over work; they were measured as the fastest.

    On a GPU, DALI's dynamic execution is used, because only it returns results on a stream: the
    host never waits for the device. There, these rules hold (DALI 2.4.0; they follow its sources
    and headers and have not been observed on a GPU):

    - The current stream of the calling thread waits for the result. Use the result on this stream,
      or copy it on this stream for another one: `record_stream` has no effect on DALI's memory.
    - The result keeps its memory for as long as the tensor exists; later runs do not overwrite it.
      When the tensor is freed, DALI uses the memory again after this stream's work up to then.
    - Inputs are kept until the device has done the run, so the caller may drop them, whoever
      allocated them; but nobody may write to them before. At most four runs are under way; the
      next one waits for the oldest.
    - Inputs on the GPU are copied to DALI's memory on the current stream. DALI would have to copy
      separate tensors even with `no_copy=True`; and with it, one tensor is shared and several are
      copied, a mixture that DALI does not support.

    Args:
        device: `cpu` or `gpu`.
        gpu: index of the GPU.
        max_batch: maximum number of samples in one run.
        threads: number of CPU threads of a graph.
    """

    def __init__(
        self, device: Literal["cpu", "gpu"], *, gpu: int | None, max_batch: int, threads: int
    ) -> None:
        self._device = device
        self._gpu = gpu
        self._max_batch = max_batch
        self._threads = threads
        self._pipelines: dict[tuple[object, ...], Any] = {}
        self._under_way: collections.deque[tuple[DeviceEvent, object]] = collections.deque()

    def build(self, graph: str, **arguments: Any) -> Any:
        """Return a graph's pipeline; it is built by the first call with these arguments.

        Raises:
            ConfigError: DALI is missing, or cannot run here, for example without a driver.
            DeviceMemoryError: there is not enough memory.
        """
        key = (graph, *sorted(arguments.items()))
        if key not in self._pipelines:
            define = getattr(load_dali_graphs(), graph)
            try:
                self._pipelines[key] = self._built(define, arguments)
            except RuntimeError as error:
                self.raise_if_out_of_memory(error)
                raise ConfigError(
                    f"DALI cannot start its graph {graph} on the {self._device}:"
                    f" {reason_of(error)}; check the driver, or choose device: cpu"
                ) from None
        return self._pipelines[key]

    def run(self, graph: str, inputs: Mapping[str, Any], **arguments: Any) -> Tensor:
        """Run a graph once; see the class for how long its result can be used.

        Args:
            inputs: one value per sample for each input of the graph; arrays, or for `frames` on a
                GPU tensors of that GPU.
            arguments: arguments of the graph's definition.

        Raises:
            ConfigError: DALI cannot run here.
            DeviceMemoryError: there is not enough memory.
            RuntimeError: DALI cannot process the inputs. The next call builds the graph again,
                because DALI's pipelines cannot be used after an error.
        """
        key = (graph, *sorted(arguments.items()))
        pipeline = self.build(graph, **arguments)
        try:
            result = self._run(pipeline, inputs)
        except BaseException as error:
            # Without the pipeline, all its memory and threads are released.
            del pipeline
            self._pipelines.pop(key, None)
            self.raise_if_out_of_memory(error)
            raise
        if self._device == "gpu":
            self._keep(inputs)
        return result

    def _keep(self, inputs: object) -> None:
        """Keep the inputs of the last run until the device has done it; drop those of runs done."""
        event = torch.cuda.current_stream(self._gpu).record_event()
        self._under_way.append((event, inputs))
        if len(self._under_way) > _MAX_RUNS_UNDER_WAY:
            self._under_way[0][0].synchronize()
        while self._under_way and self._under_way[0][0].query():
            self._under_way.popleft()

    def _run(self, pipeline: Any, inputs: Mapping[str, Any]) -> Tensor:
        if self._device == "cpu":
            for name, values in inputs.items():
                pipeline.feed_input(name, values)
            (output,) = pipeline.run()
        else:
            stream = torch.cuda.current_stream(self._gpu)
            for name, values in inputs.items():
                on_gpu = isinstance(values[0], Tensor)
                pipeline.feed_input(name, values, cuda_stream=stream if on_gpu else None)
            (output,) = pipeline.run(stream)
        frames: Tensor = torch.utils.dlpack.from_dlpack(output.as_tensor())
        return frames

    def _built(self, define: Any, arguments: Mapping[str, Any]) -> Any:
        on_gpu = self._device == "gpu"
        pipeline = define(
            self._device,
            **arguments,
            batch_size=self._max_batch,
            num_threads=self._threads,
            device_id=self._gpu if on_gpu else None,
            prefetch_queue_depth=1,
            exec_dynamic=on_gpu,
            exec_async=on_gpu,
            exec_pipelined=on_gpu,
        )
        pipeline.build()
        return pipeline

    def raise_if_out_of_memory(self, error: BaseException) -> None:
        """Raise DeviceMemoryError, with a remedy, if the error says that memory is short."""
        if is_out_of_memory(error):
            place = f"GPU {self._gpu}" if self._device == "gpu" else "this machine"
            raise DeviceMemoryError(
                f"preprocessing needs more memory than {place} has left for {self._max_batch} clips"
                f" or frames at once: {reason_of(error)}; lower the batch size, or end other"
                " programs that use the memory"
            ) from None
