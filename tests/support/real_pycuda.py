"""Builds the real PyCUDA, to load it with a stub of CUDA's driver, where this is possible.

It needs the sources (from the package index), CUDA's headers and a compiler. The result is kept in
`.work`. Only the module for the driver is built, without optimisation: about 50 seconds of CPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT

__all__ = ["build", "run"]

VERSION = "2026.1"
SHA256 = "759516160628ba06f32ce7e563e3f5b9214691dc9528a03ea99ea1073f4e14ba"
_DEFINES = (
    "BOOST_ALL_NO_LIB=1",
    "BOOST_THREAD_BUILD_DLL=1",
    "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION=1",
    "BOOST_PYTHON_SOURCE=1",
    "BOOST_THREAD_DONT_USE_CHRONO=1",
    "boost=pycudaboost",
    "PYGPU_PACKAGE=pycuda",
    "PYGPU_PYCUDA=1",
)


def build() -> Path:
    """Return a folder for Python's path, with the package and the stub; skip where it cannot be."""
    includes = _cuda_headers()
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        pytest.skip("PyCUDA cannot be built: no compiler (g++)")
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        pytest.skip("PyCUDA cannot be built: no Python.h")
    name = f"pycuda-{VERSION}-{sys.implementation.cache_tag}-numpy-{np.__version__}"
    folder = ROOT / ".work" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        module = folder / "pycuda" / f"_driver{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not module.exists():
            _compile(_sources(folder), includes, folder, module)
        _build_stub(folder, module)
    return folder


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; warnings are errors."""
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": paths, "STUB_DRIVER": str(folder / "libstub_driver.so")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _cuda_headers() -> Path:
    """Find the folder of cuda.h; `nvcc` on the path may be a script in another folder."""
    roots = [os.environ.get("CUDA_ROOT"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    if (nvcc := shutil.which("nvcc")) is not None:
        roots.append(str(Path(nvcc).resolve().parent.parent))
    for root in roots:
        if root and (Path(root) / "include/cuda.h").exists():
            return Path(root) / "include"
    pytest.skip("PyCUDA cannot be built: no CUDA headers; CUDA_ROOT can name their folder")


def _sources(folder: Path) -> Path:
    """Download and unpack the sources, which must have the known hash."""
    archive = folder / f"pycuda-{VERSION}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "pycuda", "--no-build-isolation", "--retries", "1"]
        command += ["--dest", str(folder), f"pycuda=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"PyCUDA cannot be built: no sources: {done.stderr.strip()[-200:]}")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / f"pycuda-{VERSION}"


def _compile(sources: Path, includes: Path, folder: Path, module: Path) -> None:
    boost = sources / "bpl-subset/bpl_subset"
    if not (boost / "pycudaboost").exists():
        (boost / "pycudaboost").symlink_to("boost")
    # The slowest first. The optional parts of Boost's threads need headers that are not shipped.
    files = [sources / f"src/wrapper/{name}.cpp" for name in ("wrap_cudadrv", "mempool")]
    files += [sources / f"src/cpp/{name}.cpp" for name in ("cuda", "bitlog")]
    files += [
        path
        for path in sorted((boost / "libs").rglob("*.cpp"))
        if "thread" not in path.parts or "pthread" in path.parts
    ]
    flags = ["-O0", "-w", "-fPIC", *(f"-D{each}" for each in _DEFINES)]
    here = (
        sources / "src/cpp",
        boost,
        includes,
        np.get_include(),
        sysconfig.get_paths()["include"],
    )
    flags += [f"-I{each}" for each in here]

    def compiled(path: Path) -> str:
        target = folder / "objects" / f"{path.parent.name}-{path.stem}.o"
        subprocess.run(["g++", *flags, "-c", path, "-o", target], check=True)
        return str(target)

    (folder / "objects").mkdir(exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, files))
    shutil.copytree(sources / "pycuda", folder / "pycuda", dirs_exist_ok=True)
    # A name of its own: a real driver of this machine is another library.
    stub = folder / "libstub_driver.so"
    subprocess.run(["gcc", "-shared", "-x", "c", os.devnull, "-o", stub], check=True)
    linked = module.with_suffix(".part")
    command = ["g++", "-shared", "-Wl,--no-as-needed", f"-L{folder}", f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, *objects, "-lstub_driver", "-o", linked], check=True)
    linked.rename(module)


def _build_stub(folder: Path, module: Path) -> None:
    """Compile the driver; its functions that nobody needs here return an error."""
    source = ROOT / "tests/support/stub_driver.c"
    needed = subprocess.run(
        ["nm", "-D", "--undefined-only", module], capture_output=True, text=True, check=True
    ).stdout
    names = set(re.findall(r"\bU (cu[A-Z]\w+)", needed))
    names -= set(re.findall(r"^int (cu\w+)\(", source.read_text(), re.MULTILINE))
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(names)))
    stub = folder / "libstub_driver.so"
    part = folder / "libstub_driver.part"
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-soname,libstub_driver.so"]
    subprocess.run([*command, source, rest, "-o", part], check=True)
    part.rename(stub)
