"""Kernels compile without a GPU, and need only PyTorch, NumPy and CuPy."""

import importlib.util
import re
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from configs import KernelError
from model.kernels import COMPILE_OPTIONS, Launch, kernel_source, run_on_gpu, why_not
from tests import ROOT

# The paper's maps in bfloat16, and the largest of what is left.
SOME = (
    "mix_forward<bfloat16, 8, 4, true>",
    "mix_forward<float, 2, 32, false>",
    "mix_backward<bfloat16, 4, 4, 4, true, true, true>",
    "mix_backward<float, 2, 16, 4, false, true, true>",
    "mix_backward_weights<double>",
    "gather_clips<bfloat16, 8>",
    "surface_to_rgb<unsigned char>",
)
WIDE = (
    "mix_forward<bfloat16, 8, 4, true>",
    "mix_forward<bfloat16, 8, 4, false>",
    "mix_forward<float, 4, 4, false>",
    "mix_backward<bfloat16, 4, 4, 4, true, true, true>",
    "gather_clips<bfloat16, 8>",
)


@pytest.fixture(scope="module")
def compiling() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "compile_kernels", ROOT / "scripts" / "compile_kernels.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["with_nvrtc", "with_nvcc"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_kernels_compile_and_keep_nothing_in_local_memory(
    compiling: ModuleType, compiler: str, architecture: str
) -> None:
    """Some of them; `make kernels` compiles all."""
    if compiler == "with_nvcc" and not shutil.which("nvcc"):
        pytest.skip("nvcc is not on the PATH")
    assert set(SOME) <= set(compiling.every_kernel())
    found = getattr(compiling, compiler)(SOME, architecture)
    assert len(found) == len(SOME)
    assert not [item for item in found if item.uses_local_memory]
    assert all(0 < item.registers <= 255 for item in found)


def test_a_kernel_that_does_not_compile_shows_the_compilers_words(compiling: ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)sm_90.*mix_forward"):
        compiling.with_nvrtc(["mix_forward<nothing, 8, 4, true>"], "sm_90")


@pytest.mark.parametrize("kernel", WIDE)
def test_maps_move_in_wide_accesses(kernel: str) -> None:
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(kernel_source(kernel), "kernels.cu", [], [])
    nvrtc.addNameExpression(program, kernel)
    nvrtc.compileProgram(program, (*COMPILE_OPTIONS, "--gpu-architecture=compute_90"))
    text = nvrtc.getPTX(program).decode()
    # the backward kernel takes 8 bytes: its sums need the registers
    width = "v2" if kernel.startswith("mix_backward") else "v4"
    reads = re.findall(r"ld\.global(?:\.nc)?\.(v\d)", text)
    writes = re.findall(r"st\.global\.(v\d)", text)
    assert writes
    assert set(writes) == {width}
    assert set(reads) == {"v2" if kernel.startswith("gather") else width}  # 8 bytes become 16


def test_a_spill_is_seen(compiling: ModuleType) -> None:
    log = (
        "ptxas info    : Compiling entry function 'k' for 'sm_90'\nptxas info    : Function"
        " properties for k\n    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill"
        " loads\nptxas info    : Used 24 registers, 48 bytes smem\n"
    )
    (found,) = compiling.parse_report(log, {}, "nvcc", "sm_90")
    assert found.uses_local_memory
    assert (found.stack_bytes, found.spill_bytes, found.registers, found.shared_bytes) == (
        16,
        12,
        24,
        48,
    )


def test_without_a_device_the_reason_is_named() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert why_not() == "no CUDA device"


def test_a_pytorch_too_old_to_hand_over_its_streams_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.delattr(torch.cuda.Stream, "__cuda_stream__")
    reason = f"PyTorch {re.escape(torch.__version__)} has no __cuda_stream__.*; install PyTorch 2"
    assert re.match(reason, why_not.__wrapped__())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: object())
    launch = Launch("gather_clips<float, 4>", (1, 1, 1), (1, 1), 0, (torch.zeros(1),))
    with pytest.raises(KernelError, match=rf"gather_clips.*: {reason}"):
        run_on_gpu(launch)


@pytest.mark.slow
def test_the_kernels_need_neither_dali_nor_pydantic() -> None:
    """A machine with PyTorch, NumPy and CuPy alone runs them and their tests."""
    missing = (
        "pydantic",
        "yaml",
        "nvidia.dali",
        "av",
        "kafka",
        "prometheus_client",
        "safetensors",
        "rich",
    )
    modules = (
        "model.mixing",
        "model.clip_gather",
        "model.media.nv12",
        "tests.conftest",
        "tests.gpu.test_mixing",
        "tests.gpu.test_clip_gather",
        "tests.gpu.test_nv12",
    )
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({missing}))\nimport {', '.join(modules)}\n"
        "import torch\nfrom model import directional_mix\n"
        "print(tuple(directional_mix(torch.zeros(1, 2, 3, 4, 4), torch.zeros(2, 2, 2, 3)).shape))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 2, 4, 4, 4)"


@pytest.mark.slow
def test_the_network_needs_no_dali() -> None:
    code = (
        "import sys\nsys.modules['nvidia.dali'] = None\nfrom model import ModelConfig,"
        " build_model\nimport model.clip_gather, model.media.preprocess"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
