"""Unpickle descriptions of tensors without calling anything that the pickle names.

A pickle may only make plain values and tensors; no function of PyTorch is called for it. The memory
that it needs is bounded by its length, and a tensor has no more elements than its storage.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from configs import quoted

__all__ = ["PlainUnpickler", "Storage", "StoredTensor", "UnsafeFileError"]

_STORAGES: Mapping[str, torch.dtype | None] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "QInt32Storage": None,
    "QInt8Storage": None,
    "QUInt2x4Storage": None,
    "QUInt4x2Storage": None,
    "QUInt8Storage": None,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_MAX_NUMBER = 2**62
_MAX_DIMENSIONS = 64
# The standard library's unpickler in Python: its memory does not depend on numbers in the pickle,
# and single operations can be left out.
_Unpickler: Any = pickle._Unpickler


class UnsafeFileError(ValueError):
    """A file has something else than plain values and tensors."""


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """The memory of one or more tensors; `dtype` is None if its numbers are quantised."""

    key: str
    dtype: torch.dtype | None
    numel: int

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return self.numel * (self.dtype.itemsize if self.dtype is not None else 1)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor as a pickle describes it; `storage` is None if it is sparse or otherwise special."""

    read_storage: Callable[[Storage], Tensor]
    storage: Storage | None = None
    offset: Any = 0
    shape: Any = ()
    stride: Any = ()
    dtype: torch.dtype | None = None

    def read(self) -> Tensor:
        """Read the tensor; the tensors of one storage share its memory.

        Raises:
            ValueError: the tensor is not plain, or its storage does not hold its elements.
        """
        if self.storage is None or self.dtype is None or str(self.dtype).startswith("torch.q"):
            raise ValueError("is a sparse or quantised tensor; only plain ones can be imported")
        self._check_shape()
        count = math.prod(self.shape)
        available = self.storage.bytes // self.dtype.itemsize
        steps = zip(self.shape, self.stride, strict=True)
        last = self.offset + sum((size - 1) * step for size, step in steps)
        if count > available or (count and last >= available):
            raise ValueError(
                f"has shape {self.shape} and stride {self.stride}, but its storage holds"
                f" {available} elements; save a copy of it (`tensor.clone()`)"
            )
        if count == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        values = self.read_storage(self.storage)[: available * self.dtype.itemsize]
        return values.view(self.dtype).as_strided(self.shape, self.stride, self.offset)

    def _check_shape(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        possible = all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers)
        if (
            not possible
            or not len(self.shape) == len(self.stride) <= _MAX_DIMENSIONS
            or math.prod(max(size, 1) for size in self.shape) >= _MAX_NUMBER
        ):
            raise ValueError(
                f"has the impossible shape {quoted(self.shape)} or stride {quoted(self.stride)}"
            )


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((_checked_key(key), value) for key, value in pairs)


def _checked_key(key: Any) -> Any:
    if type(key) not in (str, int, float, bool, type(None)):
        # To hash tuples of tuples can take any time, and overflow the stack.
        raise UnsafeFileError(f"a {type(key).__name__} is a key of a dictionary")
    return key


# What stands for the functions that a pickle may call; each returns or drops its arguments.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "_codecs.encode": lambda text, *_: text,
    "builtins.bytearray": lambda content=(), *_: content,
    "builtins.complex": lambda *parts: parts,
    "builtins.set": lambda values=(): values,
    "collections.Counter": lambda counts=(): counts,
    "collections.OrderedDict": _ordered,
    "torch.Tensor": lambda *_: None,
    "torch.Size": lambda sizes=(): sizes,
    "torch._tensor._rebuild_from_type_v2": lambda make, _, parts, *__: make(*parts),
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch.nn.parameter.Parameter": lambda *_: None,
    "torch.device": lambda *names: names,
    "torch.serialization._get_layout": lambda name: name,
}
_SPECIAL_TENSORS = ("meta_tensor_no_storage", "nested_tensor", "qtensor", "sparse_tensor")
_OPERATIONS = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BINPERSID),
    *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
    *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.BINFLOAT, pickle.LONG1, pickle.BINUNICODE, pickle.SHORT_BINSTRING),
    *(pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.APPEND, pickle.APPENDS),
)


class PlainUnpickler(_Unpickler):  # type: ignore[misc]
    """Makes plain values, and a `StoredTensor` for each tensor."""

    dispatch: ClassVar[dict[int, Any]] = {
        operation[0]: _Unpickler.dispatch[operation[0]] for operation in _OPERATIONS
    }

    def __init__(self, data: io.BytesIO, read_storage: Callable[[Storage], Tensor]) -> None:
        super().__init__(data, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self._read_storage = read_storage
        special = {f"torch._utils._rebuild_{name}": self._special for name in _SPECIAL_TENSORS}
        self._functions: Mapping[str, Callable[..., Any]] = {
            **_FUNCTIONS,
            **special,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_bytes,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the pickle stands for here."""
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in self._functions:
            return self._functions[full]
        if module in _STORAGE_MODULES and name in _STORAGES:
            return name
        value = vars(torch).get(name) if module == "torch" else None
        if not isinstance(value, torch.dtype | torch.qscheme):
            raise UnsafeFileError(f"it names {quoted(full)}")
        return value

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a persistent id describes."""
        kind, name, key, _, numel, *view = pid
        is_whole = view in ([], [None]) or view[0][1] == 0  # the offset of a storage's view
        if kind != "storage" or type(key) is not str or type(numel) is not int or not is_whole:
            raise UnsafeFileError("it has other parts than storages")
        storage = Storage(key, _STORAGES[name], numel)
        self.storages.setdefault(key, storage)
        return storage

    def load_setitem(self) -> None:
        """Set one item of a dictionary."""
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def load_setitems(self) -> None:
        """Set several items of a dictionary."""
        self._set(self.pop_mark())

    def load_build(self) -> None:
        """Leave out the attributes that PyTorch gives to dictionaries."""
        self.stack.pop()
        if not isinstance(self.stack[-1], OrderedDict):
            raise UnsafeFileError("it sets attributes")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.BUILD[0]] = load_build

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise UnsafeFileError("it sets items of something else than a dictionary")
        target.update(zip(map(_checked_key, items[::2]), items[1::2], strict=True))

    def _tensor(self, storage: Storage, offset: Any, shape: Any, stride: Any, *_: Any) -> Any:
        return StoredTensor(self._read_storage, storage, offset, shape, stride, storage.dtype)

    def _tensor_of_bytes(self, storage: Storage, *parts: Any) -> Any:
        offset, shape, stride, _, _, dtype, *_ = parts
        return StoredTensor(self._read_storage, storage, offset, shape, stride, dtype)

    def _special(self, *_: Any) -> Any:
        return StoredTensor(self._read_storage)
