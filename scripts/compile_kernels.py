"""Compile every kernel for every architecture with NVRTC and nvcc; print its registers and memory.

The script needs neither a GPU nor a driver. It fails if a kernel does not compile or uses local
memory (a spill or a stack frame).
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model.clip_gather import gather_kernels
from model.kernels import COMPILE_OPTIONS, SOURCES, kernel_source
from model.media.nv12 import surface_kernels
from model.mixing.cuda import kernel_names, run_backward, run_forward

# Options that CuPy adds to the options of this project.
ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
_REPORT = re.compile(
    r"Compiling entry function '(\S+)' for '\S+'\s+.*?(\d+) bytes stack frame, (\d+) bytes spill"
    r" stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Resources:
    """Registers and memory of one kernel, from ptxas; `shared_bytes` is static shared memory."""

    compiler: str
    architecture: str
    kernel: str
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int
    registers: int

    @property
    def uses_local_memory(self) -> bool:
        return self.stack_bytes + self.spill_bytes > 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile all kernels and print a report.

    Returns:
        0 for success, 1 if a kernel uses local memory, 2 if no compiler is installed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="compile only kernels whose name contains this text"
    )
    parser.add_argument("--table", action="store_true", help="also print one line per kernel")
    parser.add_argument(
        "--nvcc-for",
        nargs="+",
        choices=ARCHITECTURES,
        default=ARCHITECTURES,
        help="architectures that nvcc compiles for; NVRTC, which runs use, compiles for all",
    )
    given = parser.parse_args(arguments)
    names = [name for name in every_kernel() if given.only in name]
    compilers = {"NVRTC": with_nvrtc, "nvcc": with_nvcc}
    missing = {
        "NVRTC": why_no_nvrtc(),
        "nvcc": "" if shutil.which("nvcc") else "nvcc is not on the PATH",
    }
    found: list[Resources] = []
    for compiler, compile_all in compilers.items():
        if missing[compiler]:
            print(f"{compiler}: not run: {missing[compiler]}")
            continue
        started_at = time.monotonic()
        wanted = given.nvcc_for if compiler == "nvcc" else ARCHITECTURES
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(lambda arch, run=compile_all: run(names, arch), wanted))
        resources = [item for result in results for item in result]
        print(
            f"{compiler}: {len(names)} kernels for {', '.join(wanted)} in"
            f" {time.monotonic() - started_at:.0f} s"
        )
        found += resources
    if not found:
        print(
            "error: neither NVRTC nor nvcc is installed; `make setup` installs NVRTC",
            file=sys.stderr,
        )
        return 2
    _print(found, table=given.table)
    _print_launches()
    return 1 if any(item.uses_local_memory for item in found) else 0


def every_kernel() -> list[str]:
    """Return the names of all kernels of the project."""
    return [*kernel_names(), *gather_kernels(), *surface_kernels()]


def why_no_nvrtc() -> str:
    """Return why NVRTC cannot be used; the text is empty if it can."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return ""


def with_nvrtc(names: Sequence[str], architecture: str) -> list[Resources]:
    """Compile kernels to machine code with NVRTC, as one program per source file.

    Raises:
        RuntimeError: compilation failed; the message is the compiler's log.
    """
    from cupy_backends.cuda.libs import nvrtc

    found = []
    for group in _by_source(names):
        program = nvrtc.createProgram(
            kernel_source(group[0]), SOURCES[group[0].partition("<")[0]].name, [], []
        )
        for name in group:
            nvrtc.addNameExpression(program, name)
        try:
            options = (
                *COMPILE_OPTIONS,
                *ADDED_BY_CUPY,
                f"--gpu-architecture={architecture}",
                "--ptxas-options=-v",
            )
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(f"NVRTC, {architecture}: {nvrtc.getProgramLog(program)}") from error
        lowered = {nvrtc.getLoweredName(program, name): name for name in group}
        found += parse_report(nvrtc.getProgramLog(program), lowered, "NVRTC", architecture)
        nvrtc.destroyProgram(program)
    return found


def with_nvcc(names: Sequence[str], architecture: str) -> list[Resources]:
    """Compile kernels to machine code with nvcc.

    Raises:
        RuntimeError: compilation failed; the message is the compiler's log.
    """
    found = []
    for group in _by_source(names):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernels.cu"
            # nvcc compiles a kernel if the program uses its address.
            table = "\n".join(f"    (void*){name}," for name in group)
            source.write_text(
                f"{kernel_source(group[0])}\nvoid* kernels[] = {{\n{table}\n}};\n", encoding="utf-8"
            )
            command = [
                "nvcc",
                *COMPILE_OPTIONS,
                f"-arch={architecture}",
                "-cubin",
                "-Xptxas=-v",
                "-o",
                f"{folder}/kernels.cubin",
                str(source),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"nvcc, {architecture}: {done.stderr}")
        found += parse_report(done.stderr, {}, "nvcc", architecture)
    if len(found) != len(names):
        raise RuntimeError(
            f"nvcc, {architecture}: {len(names)} kernels asked for, {len(found)} reported"
        )
    return found


def _by_source(names: Iterable[str]) -> list[list[str]]:
    groups: dict[Path, list[str]] = {}
    for name in names:
        groups.setdefault(SOURCES[name.partition("<")[0]], []).append(name)
    return list(groups.values())


def parse_report(
    log: str, lowered: dict[str, str], compiler: str, architecture: str
) -> list[Resources]:
    """Read the registers and memory of kernels from a compiler's report.

    Args:
        log: text of the report.
        lowered: mangled name -> name of the kernel; unknown mangled names are used unchanged.
        compiler, architecture: compiler that wrote the report, and the architecture it is for.
    """
    found = []
    for symbol, stack, stores, loads, registers, rest in _REPORT.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        numbers = (
            int(stack),
            int(stores) + int(loads),
            int(shared[1]) if shared else 0,
            int(registers),
        )
        found.append(Resources(compiler, architecture, lowered.get(symbol, symbol), *numbers))
    return found


def _print(found: Sequence[Resources], *, table: bool) -> None:
    shown = found if table else [item for item in found if item.uses_local_memory]
    for item in shown:
        print(
            f"{item.compiler:5} {item.architecture:6} {item.registers:3} registers,"
            f" {item.shared_bytes} B static shared, {item.stack_bytes} B stack, {item.spill_bytes}"
            f" B spilled  {item.kernel}"
        )
    for compiler in dict.fromkeys(item.compiler for item in found):
        own_architectures = (item.architecture for item in found if item.compiler == compiler)
        for architecture in dict.fromkeys(own_architectures):
            own = [
                item
                for item in found
                if (item.compiler, item.architecture) == (compiler, architecture)
            ]
            spilling = sum(item.uses_local_memory for item in own)
            max_registers = max(item.registers for item in own)
            print(
                f"{compiler:5} {architecture:6}: {len(own)} kernels, at most {max_registers}"
                f" registers, {spilling} with local memory"
            )


def _print_launches() -> None:
    """Print the launches for the paper's maps at batch 64."""
    print("launches of the paper's maps, batch 64, bfloat16, channels-last:")
    for channels, side in ((512, 28), (1024, 14), (2048, 7)):
        # One clip is viewed as 64 clips. This is enough, because no kernel runs and the launch
        # depends only on shapes and strides.
        clip = torch.zeros(1, 4, side, side, channels, dtype=torch.bfloat16)
        x = clip.expand(64, -1, -1, -1, -1).permute(0, 4, 1, 2, 3)
        logits = torch.zeros(2, channels, 2, 4)
        run_forward(print, x, logits, mapping="affine", masked=True)
        run_backward(
            print, x, x, logits, mapping="affine", masked=True, needs_map=True, needs_given=True
        )


if __name__ == "__main__":
    sys.exit(main())
