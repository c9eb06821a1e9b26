"""PyCUDA's contexts and memory, on a fake driver that keeps the rules."""

import builtins
import sys
import threading
from typing import Any

import pytest
import torch

from model import pycuda_memory
from model.pycuda_memory import PyCudaMemory, why_not_pycuda
from tests.support import fake_pycuda
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_pycuda import FakeDriver, LogicError

# Memory "on the device": a copy that is done late must find it.
TARGET = torch.zeros(64, dtype=torch.uint8)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return fake_pycuda.install(FakeCuda(monkeypatch), monkeypatch, gpus=2)


def test_the_context_is_current_only_inside_calls_on_every_thread(driver: FakeDriver) -> None:
    stacks: list[int] = []
    memory = PyCudaMemory(0)

    def work() -> None:
        buffer = memory.allocate(64)
        stacks.append(len(driver.stack))
        memory.copy(TARGET, buffer)
        stacks.append(len(driver.stack))
        memory.stream.advance(memory.stream.record_event())
        assert memory.is_idle()
        memory.free(buffer)
        stacks.append(len(driver.stack))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    memory.close()
    assert [*stacks, len(driver.stack)] == [0] * 7
    assert not driver.leaks


def test_a_context_of_somebody_else_stays_current(driver: FakeDriver) -> None:
    driver.init()
    context = driver.Device(1).retain_primary_context()
    context.push()
    memory = PyCudaMemory(0)
    memory.free(memory.allocate(64))
    memory.close()
    assert driver.stack == [context]


def test_memory_is_freed_before_the_context_is_let_go_when_the_process_ends(
    driver: FakeDriver,
) -> None:
    first, second, other_gpu = PyCudaMemory(0), PyCudaMemory(0), PyCudaMemory(1)
    for memory in (first, second, other_gpu):
        memory.allocate(64)
    second.close()
    pycuda_memory._let_go_of_all()  # `FakeContext.detach` checks what is left
    assert not driver.live
    assert not driver.streams
    assert driver.detached == 2
    assert not driver.stack
    for memory in (first, second, other_gpu):
        memory.close()
    assert not driver.leaks


def test_at_the_end_a_busy_device_keeps_its_memory(driver: FakeDriver) -> None:
    memory = PyCudaMemory(0)
    memory.copy(TARGET, memory.allocate(64))
    memory.stream.held = True  # a wait would fail
    pycuda_memory._let_go_of_all()
    assert len(driver.live) == 1
    assert driver.detached == 0
    memory.stream.held = False
    memory.close()
    assert not driver.live


def test_a_driver_that_has_ended_is_no_error_at_the_end(driver: FakeDriver) -> None:
    memory = PyCudaMemory(0)
    driver.failure["Stream.is_done"] = LogicError("cuStreamQuery failed: driver shutting down")
    pycuda_memory._let_go_of_all()
    assert not driver.stack
    memory.close()


def test_after_an_error_of_the_device_memory_is_freed_all_the_same(driver: FakeDriver) -> None:
    memory = PyCudaMemory(0)
    memory.allocate(64)
    driver.failure["Stream.synchronize"] = LogicError("cuStreamSynchronize failed: illegal address")
    memory.close()
    assert not driver.live
    assert not driver.streams


def test_a_context_is_retained_once_for_each_gpu(driver: FakeDriver) -> None:
    for gpu in (0, 1, 0, 1):
        PyCudaMemory(gpu).close()
    assert sorted(pycuda_memory._contexts) == [0, 1]
    assert why_not_pycuda(2) == "PyCUDA: cuDeviceGet failed: invalid device ordinal"


def test_write_combined_memory_is_asked_for_by_its_flag(driver: FakeDriver) -> None:
    memory = PyCudaMemory(0, is_write_combined=True)
    memory.allocate(64)
    assert driver.flags == [driver.host_alloc_flags.WRITECOMBINED]
    memory.close()


def test_a_trial_leaves_nothing_behind(driver: FakeDriver) -> None:
    assert why_not_pycuda(0) == ""
    driver.failure["pagelocked_empty"] = LogicError("cuMemHostAlloc failed: out of memory")
    assert why_not_pycuda(0) == "PyCUDA: cuMemHostAlloc failed: out of memory"
    assert not driver.live
    assert not driver.streams


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'pycuda'", name="pycuda"), "PyCUDA is not installed"),
        (
            ModuleNotFoundError("No module named 'mako'", name="mako"),
            "PyCUDA is incomplete: No module named 'mako'",
        ),
        (
            ImportError("libcuda.so.1: cannot open shared object file"),
            "PyCUDA cannot be imported: libcuda.so.1: cannot open shared object file",
        ),
    ],
    ids=["missing", "incomplete", "no driver"],
)
def test_a_package_that_cannot_be_imported_is_explained(
    error: ImportError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def failing(name: str, *arguments: Any) -> Any:
        if name == "pycuda.driver":
            raise error
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "pycuda", raising=False)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    monkeypatch.setattr(builtins, "__import__", failing)
    assert why_not_pycuda(0) == said
