"""Runs CUDA sources on the CPU: g++ with AddressSanitizer, threads of a block as fibers."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.kernels import SOURCES, Launch, kernel_source

HERE = Path(__file__).parent / "kernels"
ORDERS = ("forwards", "backwards", "shuffled")
FLAGS = (
    "-std=c++20",
    "-O1",
    "-g",
    "-fno-strict-aliasing",
    "-fno-omit-frame-pointer",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)


class Shim:
    """Programs that run launches on the CPU; `run` replaces `run_on_gpu`, and waits for the end."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("g++") is None:
            pytest.skip("no g++ to compile the kernels for the CPU")
        self.folder = folder
        self.programs: dict[str, tuple[Path, list[str]]] = {}
        self.order = "forwards"
        self.launched: list[Launch] = []

    def build(self, kernels: Sequence[str]) -> None:
        """Compile one program for each source file of these kernels."""
        groups: dict[Path, set[str]] = {}
        for kernel in kernels:
            groups.setdefault(SOURCES[kernel.partition("<")[0]], set()).add(kernel)
        for group in groups.values():
            self._build(sorted(group))

    def _build(self, kernels: list[str]) -> None:
        path = self.folder / f"program{len(self.programs)}"
        lines = [
            '#include "shim.h"',
            kernel_source(kernels[0]),
            '#include "driver.h"',
            "const std::vector<Kernel> KERNELS = {",
        ]
        lines += [f"{{[](auto... a) {{ shim::run({name}, a...); }}}}," for name in kernels]
        path.with_suffix(".cpp").write_text("\n".join([*lines, "};"]), encoding="utf-8")
        command = ["g++", *FLAGS, f"-I{HERE}", str(path.with_suffix(".cpp")), "-o", str(path)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[-4000:]
        self.programs.update(dict.fromkeys(kernels, (path, list(kernels))))

    def run(self, launch: Launch) -> None:
        """Run one launch on the CPU, writing tensors in place; fail if a sanitizer reports."""
        self.launched.append(launch)
        # Limits that every GPU has.
        assert launch.shared_bytes <= 48 * 1024
        assert launch.block[0] * launch.block[1] <= 1024
        assert launch.grid[0] < 2**31
        assert max(launch.grid[1:]) < 2**16
        if launch.kernel not in self.programs:
            self.build([launch.kernel])
        program, kernels = self.programs[launch.kernel]
        tensors = [item for item in launch.arguments if isinstance(item, Tensor)]
        storages = {item.untyped_storage().data_ptr(): item.untyped_storage() for item in tensors}
        numbers = {address: number for number, address in enumerate(storages)}
        data = [np.frombuffer(_bytes(storage), np.uint8) for storage in storages.values()]
        with (self.folder / "in").open("wb") as file:
            file.write(struct.pack("<q", len(data)))
            for item in data:
                file.write(struct.pack("<q", item.size) + item.tobytes())
            file.write(struct.pack("<qqq", 1, kernels.index(launch.kernel), launch.shared_bytes))
            file.write(struct.pack("<6i", *launch.grid, *launch.block, 1))
            file.write(struct.pack("<q", len(launch.arguments)))
            for argument in launch.arguments:
                if isinstance(argument, Tensor):
                    storage = argument.untyped_storage()
                    file.write(
                        struct.pack(
                            "<qq",
                            numbers[storage.data_ptr()],
                            argument.data_ptr() - storage.data_ptr(),
                        )
                    )
                else:
                    file.write(struct.pack("<q", -1) + argument.tobytes().ljust(8, b"\0"))
        command = [
            str(program),
            str(self.folder / "in"),
            str(self.folder / "out"),
            str(ORDERS.index(self.order)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{launch!r}\n{done.stderr[-4000:]}"
        written = (self.folder / "out").read_bytes()
        at = 0
        for storage, item in zip(storages.values(), data, strict=True):
            target = torch.empty(0, dtype=torch.uint8).set_(storage)
            target.copy_(
                torch.frombuffer(bytearray(written[at : at + item.size]), dtype=torch.uint8)
            )
            at += item.size


def _bytes(storage: torch.UntypedStorage) -> bytes:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()
