"""TensorRT without a GPU: the calls that this project makes, with ONNX Runtime inside.

`SIGNATURES`, `ATTRIBUTES` and `MEMBERS` are those of TensorRT 11.4; a test compares them with the
real package where it is installed, and with this fake everywhere.
"""

from __future__ import annotations

import ctypes
import enum
import json
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto

from tests.support.onnx_numbers import run_onnx

__all__ = ["ATTRIBUTES", "MEMBERS", "SIGNATURES", "FakeTensorRT"]

# Names of the arguments of each method that is called, without `self`.
SIGNATURES: dict[str, tuple[str, ...]] = {
    "Builder.__init__": ("logger",),
    "Builder.create_network": ("flags",),
    "Builder.create_optimization_profile": (),
    "Builder.create_builder_config": (),
    "Builder.build_serialized_network": ("network", "config"),
    "OnnxParser.__init__": ("network", "logger"),
    "OnnxParser.parse": ("model", "path"),
    "OnnxParser.get_error": ("index",),
    "IOptimizationProfile.set_shape": ("input", "min", "opt", "max"),
    "IBuilderConfig.add_optimization_profile": ("profile",),
    "Runtime.__init__": ("logger",),
    "Runtime.deserialize_cuda_engine": ("serialized_engine",),
    "ICudaEngine.create_execution_context": (),
    "ICudaEngine.get_tensor_dtype": ("name",),
    "IExecutionContext.set_input_shape": ("name", "shape"),
    "IExecutionContext.set_tensor_address": ("name", "memory"),
    "IExecutionContext.execute_async_v3": ("stream_handle",),
    "ILogger.log": ("severity", "msg"),
}
ATTRIBUTES = ("OnnxParser.num_errors", "ICudaEngine.device_memory_size_v2")
MEMBERS: dict[str, tuple[str, ...]] = {
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "DataType": ("FLOAT", "HALF", "BF16"),
    "ILogger.Severity": ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"),
}
_MAGIC = b"fake plan "
_WORKSPACE_BYTES = 4096


class _Flag(enum.IntEnum):
    STRONGLY_TYPED = 1


class _DataType(enum.Enum):
    FLOAT = TensorProto.FLOAT
    HALF = TensorProto.FLOAT16
    BF16 = TensorProto.BFLOAT16
    INT32 = TensorProto.INT32


class _Logger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << _Flag.STRONGLY_TYPED, "number formats would be TensorRT's own choice"
        self.onnx = b""


class _ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class _Parser:
    def __init__(self, network: _Network, logger: _Logger) -> None:
        assert isinstance(logger, _Logger)
        self._network = network
        self._errors: list[_ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        except Exception as error:
            self._errors.append(_ParserError(str(error)))
            return False
        self._network.onnx = model
        return True


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        self.shapes[input] = [list(min), list(opt), list(max)]


class _Config:
    def __init__(self) -> None:
        self.profiles: list[_Profile] = []

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class _Engine:
    device_memory_size_v2 = _WORKSPACE_BYTES

    def __init__(self, shapes: dict[str, list[list[int]]], model: onnx.ModelProto) -> None:
        self.shapes = shapes
        self.model = model
        values = (*model.graph.input, *model.graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}

    def get_tensor_dtype(self, name: str) -> _DataType:
        return _DataType(self._types[name])

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine.shapes[name]
        fits = all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))
        self._shape = shape if fits else ()
        return fits

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert isinstance(stream_handle, int)
        graph = self._engine.model.graph
        source, target = (value[0].name for value in (graph.input, graph.output))
        clips = _read(self._addresses[source], self._shape, self._engine.get_tensor_dtype(source))
        logits = run_onnx(self._engine.model, clips)
        ctypes.memmove(self._addresses[target], logits.tobytes(), logits.nbytes)
        return True


def _read(address: int, shape: tuple[int, ...], kind: _DataType) -> np.ndarray:
    dtype = {_DataType.FLOAT: torch.float32, _DataType.BF16: torch.bfloat16}[kind]
    raw = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape).float().numpy()


class FakeTensorRT:
    """Takes the place of the module `tensorrt`.

    Attributes:
        built: number of engines that were built.
        cannot_build: whether builds fail.
    """

    __version__ = "11.4.0.106"
    ILogger = _Logger
    OnnxParser = _Parser
    DataType = _DataType
    NetworkDefinitionCreationFlag = _Flag
    IOptimizationProfile = _Profile
    IBuilderConfig = _Config
    ICudaEngine = _Engine
    IExecutionContext = _Context

    def __init__(self) -> None:
        self.built = 0
        self.cannot_build = False
        fake = self

        class Builder:
            def __init__(self, logger: _Logger) -> None:
                self._logger = logger

            def create_network(self, flags: int = 0) -> _Network:
                return _Network(flags)

            def create_optimization_profile(self) -> _Profile:
                return _Profile()

            def create_builder_config(self) -> _Config:
                return _Config()

            def build_serialized_network(self, network: _Network, config: _Config) -> Any:
                if fake.cannot_build:
                    self._logger.log(_Logger.Severity.ERROR, "no tactic for node_conv3d")
                    return None
                fake.built += 1
                shapes = json.dumps(config.profiles[0].shapes).encode()
                return bytearray(_MAGIC + shapes + b"\n" + network.onnx)

        class Runtime:
            def __init__(self, logger: _Logger) -> None:
                assert isinstance(logger, _Logger)

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> _Engine | None:
                if not serialized_engine.startswith(_MAGIC):
                    return None
                shapes, _, model = serialized_engine[len(_MAGIC) :].partition(b"\n")
                return _Engine(json.loads(shapes), onnx.load_from_string(model))

        self.Builder = Builder
        self.Runtime = Runtime
