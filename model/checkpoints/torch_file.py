"""Read PyTorch's checkpoint files (.pth, .pt) without executing code from them.

A file has a pickle, which describes tensors as views of storages, and the bytes of the storages: in
a zip archive, or one after the other (files before PyTorch 1.6). The memory that a file needs is
bounded by its size: storages are not compressed and do not overlap, and a pickle has at most
`_MAX_PICKLE_BYTES`.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.plain_pickle import PlainUnpickler, Storage

__all__ = ["torch_file"]

_MAX_PICKLE_BYTES = 16 << 20  # a tensor needs about 300 bytes
_MAGIC = 0x1950A86A20F9469CFC6C  # of files before PyTorch 1.6


@contextlib.contextmanager
def torch_file(path: Path) -> Iterator[Any]:
    """Yield the content of a file; its tensors are `StoredTensor`s, which the block may read.

    Raises:
        UnsafeFileError: reading the file could run code, so it is not read.
        Exception: of any class; the file is damaged.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if not is_archive:
            yield _OldFile(file).content()
            return
        with zipfile.ZipFile(file) as archive:
            yield _Archive(archive, path.stat().st_size).content()


class _Archive:
    """A zip archive with the members `<name>/data.pkl` and `<name>/data/<key>`."""

    def __init__(self, archive: zipfile.ZipFile, file_bytes: int) -> None:
        self._archive = archive
        self._values: dict[str, Tensor] = {}
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        size = sum(max(member.file_size, member.compress_size) for member in members)
        if packed or size > file_bytes:
            raise ValueError(
                "members of the zip archive are compressed or overlap; write it with torch.save"
            )
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        self._folder = min(pickles, key=len).removesuffix("data.pkl")

    def content(self) -> Any:
        """Read the pickle."""
        name = f"{self._folder}data.pkl"
        if self._archive.getinfo(name).file_size > _MAX_PICKLE_BYTES:
            raise ValueError(f"{name} has more than {_MAX_PICKLE_BYTES >> 20} MB")
        order = f"{self._folder}byteorder"
        if order in self._archive.namelist() and self._archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")
        data = io.BytesIO(self._archive.read(name))
        return PlainUnpickler(data, self._read_storage).load()

    def _read_storage(self, storage: Storage) -> Tensor:
        if storage.key not in self._values:
            self._values[storage.key] = _values(
                self._archive.read(f"{self._folder}data/{storage.key}")
            )
        return _checked(self._values[storage.key], storage)


class _OldFile:
    """Five pickles (magic number, version, system, content, keys of storages), then storages."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._values: dict[str, Tensor] = {}

    def content(self) -> Any:
        """Read the pickles, and find the storages."""
        data = io.BytesIO(self._file.read(_MAX_PICKLE_BYTES))
        if self._unpickled(data)[0] != _MAGIC:
            raise ValueError("it is neither a zip archive nor an older file of PyTorch")
        self._unpickled(data)
        if self._unpickled(data)[0]["little_endian"] is not True:
            raise ValueError("its numbers are not little-endian")
        content, storages = self._unpickled(data)
        keys, _ = self._unpickled(data)
        place = data.tell()
        for key in keys:
            self._file.seek(place)
            count = int.from_bytes(self._file.read(8), "little")
            storage = storages[key]
            if count != storage.numel:
                raise ValueError(f"a storage has {count} elements instead of {storage.numel}")
            self._places[key] = (place + 8, storage.bytes)
            place += 8 + storage.bytes
        if place > self._file.seek(0, io.SEEK_END):
            raise ValueError("it is incomplete")
        return content

    def _unpickled(self, data: io.BytesIO) -> tuple[Any, Mapping[str, Storage]]:
        unpickler = PlainUnpickler(data, self._read_storage)
        return unpickler.load(), unpickler.storages

    def _read_storage(self, storage: Storage) -> Tensor:
        if storage.key not in self._values:
            place, size = self._places[storage.key]
            self._file.seek(place)
            self._values[storage.key] = _values(self._file.read(size))
        return _checked(self._values[storage.key], storage)


def _values(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[: len(data)]


def _checked(values: Tensor, storage: Storage) -> Tensor:
    if len(values) < storage.bytes:
        raise ValueError(f"has a storage of {len(values)} bytes instead of {storage.bytes}")
    return values
