"""The fake of PyCUDA against the real package, and our memory on it, with a stub for a driver."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from tests.support import fake_pycuda, real_pycuda
from tests.support.fake_cuda import FakeCuda

# The build takes a minute of CPU, once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HEAD = """
import ctypes, gc, json, os, sys, threading, warnings
import numpy as np
stub = ctypes.CDLL(os.environ["STUB_DRIVER"])
def on_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
LOOK = (
    HEAD
    + """
import pycuda.driver as driver
flags = driver.host_alloc_flags
print(json.dumps({
    "doc": {
        "init": driver.init.__doc__,
        "pagelocked_empty": driver.pagelocked_empty.__doc__,
        "memcpy_htod_async": driver.memcpy_htod_async.__doc__,
        "Stream": driver.Stream.__init__.__doc__,
    },
    "names": {
        "driver": dir(driver),
        "Device": dir(driver.Device),
        "Context": dir(driver.Context),
        "Stream": dir(driver.Stream),
        "HostAllocation": dir(driver.HostAllocation),
    },
    "flags": {name: getattr(flags, name) for name in ("PORTABLE", "DEVICEMAP", "WRITECOMBINED")},
    "bases": [each.__name__ for each in driver.LogicError.__mro__],
}))
"""
)
MEMORY = (
    HEAD
    + """
import torch
from model.pycuda_memory import PyCudaMemory, why_not_pycuda
reasons = [why_not_pycuda(0), why_not_pycuda(7)]
depths = []
memory = PyCudaMemory(0, is_write_combined=True)
target = torch.zeros(5, dtype=torch.uint8)
def work():
    buffer = memory.allocate(8)
    buffer.fill_(7)
    memory.copy(target, buffer[:5])
    depths.append((stub.stub_depth(), memory.is_idle(), target.tolist()))
on_thread(work)
work()
memory.close()
depths.append((stub.stub_depth(), memory.is_idle(), target.tolist()))
on_thread(lambda: depths.append((stub.stub_depth(), True, [])))
print(json.dumps({"reasons": reasons, "depths": depths, "left": stub.stub_allocations()}))
"""
)
DROPPED = (
    HEAD
    + """
from model.pycuda_memory import PyCudaMemory
kept = []
def work():
    kept.append(PyCudaMemory(0))
    kept[0].allocate(8)
on_thread(work)
kept.clear()
gc.collect()
first = stub.stub_allocations()
last = PyCudaMemory(0)
last.allocate(16)
other = PyCudaMemory(1)
other.allocate(32)
print(json.dumps({"dropped": first, "left": stub.stub_allocations()}))
"""
)
RULES = (
    HEAD
    + """
import pycuda.driver as driver
def fails(call):
    try:
        call()
    except driver.Error as error:
        return str(error)
said = [fails(lambda: driver.Device(0)), fails(lambda: driver.pagelocked_empty(8, np.uint8))]
driver.init()
said = said[1:]
context = driver.Device(0).retain_primary_context()
said.append(fails(driver.Context.pop))
context.push()
array = driver.pagelocked_empty(8, np.uint8, mem_flags=0)
base = type(array.base).__name__
driver.Context.pop()
said.append(fails(lambda: driver.Stream(1)))
caught = []
def free_without_context():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        array.base.free()
        caught.extend(str(each.message) for each in found)
on_thread(free_without_context)
left = stub.stub_allocations()
said.append(fails(array.base.free))
context.push()
context.detach()
print(json.dumps({"said": said, "base": base, "caught": caught, "left": left,
                  "depth": stub.stub_depth(), "current": driver.Context.get_current() is None}))
"""
)


@pytest.fixture(scope="module")
def package() -> Path:
    return real_pycuda.build()


def found(package: Path, code: str) -> tuple[dict, list[str]]:
    """What the code printed, and what the driver was asked for until the process had ended."""
    done = real_pycuda.run(package, code)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("stub: ") for line in lines), done.stderr
    return json.loads(done.stdout), [line.removeprefix("stub: ") for line in lines]


def names_in(doc: str) -> list[str]:
    """Names of arguments in the documentation that Boost.Python writes."""
    return re.findall(r"\(\w+\)(\w+)", doc.splitlines()[1])


def test_the_fake_has_the_arguments_of_the_real_package(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, _ = found(package, LOOK)
    fake = fake_pycuda.install(FakeCuda(monkeypatch), monkeypatch)
    for name, doc in real["doc"].items():
        expected = [each for each in names_in(doc) if each != "arg1"]
        assert list(inspect.signature(getattr(fake, name)).parameters) == expected, doc
    assert real["flags"] == vars(fake.host_alloc_flags)
    assert real["bases"] == ["LogicError", "Error", "Exception", "BaseException", "object"]
    assert [each.__name__ for each in fake_pycuda.LogicError.__mro__] == real["bases"]


def test_what_the_fake_offers_exists(package: Path) -> None:
    names = found(package, LOOK)[0]["names"]
    assert {"Error", "Device", "Context", "Stream", "host_alloc_flags"} <= set(names["driver"])
    assert "retain_primary_context" in names["Device"]
    assert {"push", "pop", "detach"} <= set(names["Context"])
    assert {"handle", "synchronize", "is_done"} <= set(names["Stream"])
    assert "free" in names["HostAllocation"]


def test_our_memory_works_with_the_real_package_on_any_thread(package: Path) -> None:
    real, driver = found(package, MEMORY)
    assert real["reasons"] == ["", "PyCUDA: cuDeviceGet failed: an error of the stub"]
    # No context is left current, on no thread; copies are done by `close`.
    assert real["depths"] == [
        [0, False, [0] * 5],
        [0, False, [0] * 5],
        [0, True, [7] * 5],
        [0, True, []],
    ]
    assert real["left"] == 0
    assert driver.count("stream flags 1") == 2  # one of the trial
    assert driver.count("allocate 8 flags 4") == 2
    assert driver[-1] == "release 0"


def test_memory_is_freed_before_its_context_is_let_go_when_the_process_ends(package: Path) -> None:
    real, driver = found(package, DROPPED)
    assert real == {"dropped": 0, "left": 2}
    for gpu, memories in ((0, 2), (1, 1)):
        of_gpu = [line.split()[0] for line in driver if line.endswith(f" {gpu}")]
        of_gpu = [word for word in of_gpu if word in ("retain", "free", "destroy", "release")]
        assert of_gpu == ["retain", *["free", "destroy"] * memories, "release"]


def test_the_rules_that_the_fake_keeps_are_those_of_the_real_package(package: Path) -> None:
    real, driver = found(package, RULES)
    no_context, pop, no_stream, freed_twice = real["said"]
    assert "invalid device context" in no_context
    assert "cannot pop non-current context" in pop
    assert "invalid device context" in no_stream
    assert "pagelocked_host_allocation::free failed" in freed_twice
    assert real["base"] == "PagelockedHostAllocation"
    # Memory that is freed on a thread without its context is lost, with a warning only.
    assert real["left"] == 1
    assert "out-of-thread context could not be cleaned up" in real["caught"][0]
    # PyCUDA takes a context that was let go off its own stack, and leaves it on CUDA's.
    assert real["current"]
    assert real["depth"] == 1
    assert driver.count("release 0") == 1
