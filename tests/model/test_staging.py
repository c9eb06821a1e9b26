"""The ring of page-locked buffers, on fake streams that read a buffer only when they come to it."""

import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from configs import ConfigError
from model.pycuda_memory import PyCudaMemory
from model.staging import HostMemory, HostUpload, TorchMemory, host_upload
from tests.support import fake_pycuda
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_pycuda import FakeDriver, LogicError

GPU = torch.device("cuda", 0)
Open = Callable[[], HostMemory]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def driver(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return fake_pycuda.install(cuda, monkeypatch)


@pytest.fixture(params=["torch", "pycuda", "write-combined"])
def open_memory(request: pytest.FixtureRequest, driver: FakeDriver) -> Open:
    return {
        "torch": lambda: TorchMemory(GPU),
        "pycuda": lambda: PyCudaMemory(0),
        "write-combined": lambda: PyCudaMemory(0, is_write_combined=True),
    }[request.param]


def arrays(value: int, *sizes: int) -> list[np.ndarray]:
    return [
        np.full((1, size, size, 3), value + index, np.uint8) for index, size in enumerate(sizes)
    ]


def finish(upload: HostUpload) -> None:
    """Let the device do all copies, without a wait of the host."""
    stream = upload.memory.stream
    stream.advance(stream.record_event())


def test_arrays_arrive_whole_and_may_be_changed_at_once(cuda: FakeCuda, open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    wide = np.random.default_rng(0).integers(0, 256, (2, 7, 40, 3), dtype=np.uint8)
    strided = wide[:, :, 3:20]
    expected = [strided.copy(), np.full((1, 5, 5, 3), 9, np.uint8)]
    given = [strided, expected[1].copy()]
    tensors = upload(given)
    for array in given:
        array[:] = 0
    assert not cuda.waits
    cuda.default.synchronize()  # the caller's stream: it waits for the copy
    for tensor, array in zip(tensors, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_memory_belongs_to_the_copying_stream_and_is_noted_on_the_callers(
    cuda: FakeCuda, open_memory: Open
) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    caller = torch.cuda.Stream(GPU)
    with torch.cuda.stream(caller):
        upload(arrays(1, 8))
    assert upload.memory.stream is not caller
    assert cuda.owners == [upload.memory.stream.name]
    assert cuda.kept == [caller.name]
    assert cuda.current() is cuda.default


def test_every_copy_is_told_with_its_bytes(cuda: FakeCuda) -> None:
    sizes: list[int] = []
    upload = HostUpload(GPU, memory=TorchMemory(GPU), on_copy=sizes.append)
    upload(arrays(1, 16))
    upload(arrays(1, 16, 32))
    assert sizes == [768, 768 + 3072]
    upload.close()


def test_a_copy_does_not_wait_for_the_callers_stream(cuda: FakeCuda, open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    cuda.default.held = True  # a device that is busy with the network
    tensors = [upload(arrays(number, 8)) for number in range(3)]
    finish(upload)
    assert [int(tensor.min()) for (tensor,) in tensors] == [0, 1, 2]


def test_a_buffer_is_filled_again_only_after_its_event(cuda: FakeCuda, open_memory: Open) -> None:
    noted = []
    upload = HostUpload(
        GPU, memory=open_memory(), max_buffers=3, on_wait=lambda: noted.append("wait")
    )
    batches = [upload(arrays(10 * number, 8, 8)) for number in range(3)]
    assert not cuda.waits  # none of the copies has been done
    batches.append(upload(arrays(30, 8, 8)))  # waits for the oldest and takes its buffer
    assert cuda.waits == [("MainThread", upload.memory.stream.name)]
    assert upload.waits == 1
    assert noted == ["wait"]
    finish(upload)
    values = [[int(tensor[0, 0, 0, 0]) for tensor in batch] for batch in batches]
    assert values == [[0, 1], [10, 11], [20, 21], [30, 31]]
    assert all(bool((tensor == tensor[0, 0, 0, 0]).all()) for batch in batches for tensor in batch)


def test_the_fakes_show_a_buffer_that_is_filled_too_early(driver: FakeDriver) -> None:
    memory = PyCudaMemory(0)
    buffer = memory.allocate(8)
    target = torch.zeros(8, dtype=torch.uint8)
    buffer.fill_(1)
    memory.copy(target, buffer)
    buffer.fill_(2)
    memory.stream.synchronize()
    assert target.tolist() == [2] * 8
    memory.copy(target, buffer)
    with pytest.raises(AssertionError, match="freed while copied"):
        memory.free(buffer)
    memory.stream.synchronize()


def test_a_buffer_that_is_done_is_used_again_without_waiting(
    cuda: FakeCuda, driver: FakeDriver
) -> None:
    for memory in (TorchMemory(GPU), PyCudaMemory(0)):
        upload = HostUpload(GPU, memory=memory)
        for number in range(20):
            upload(arrays(number, 8))
            finish(upload)
    assert len(cuda.page_locked) == 1
    assert len(driver.flags) == 1
    assert not cuda.waits


def test_buffers_grow_in_powers_of_two_and_small_ones_are_freed(
    cuda: FakeCuda, driver: FakeDriver
) -> None:
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    for sizes in ((8,), (64, 64), (8,), (64, 64), (65, 65)):
        tensors = upload(arrays(5, *sizes))
        finish(upload)
        assert [int(tensor.max()) for tensor in tensors] == [5, 6][: len(sizes)]
    assert len(driver.flags) == 2
    assert [allocation.memory.size for allocation in driver.live] == [1 << 15]
    assert not cuda.waits


def test_a_copy_that_fails_leaves_nothing_behind(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = HostUpload(GPU)
    with monkeypatch.context() as broken:
        broken.setattr("model.staging._copy", lambda target, source: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upload(arrays(1, 8))
    lost = weakref.ref(cuda.page_locked.pop())
    gc.collect()
    assert lost() is None
    (tensor,) = upload(arrays(7, 8))
    finish(upload)
    assert int(tensor.min()) == 7


@pytest.mark.parametrize("call", ["memcpy_htod_async", "pagelocked_empty"])
def test_an_error_of_pycuda_is_told_and_the_ring_goes_on(driver: FakeDriver, call: str) -> None:
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    under_way = upload(arrays(1, 8))
    driver.failure[call] = LogicError(f"{call} failed: out of memory")
    with pytest.raises(RuntimeError, match=rf"^PyCUDA: {call} failed: out of memory$"):
        upload(arrays(2, 8))
    assert not driver.stack
    assert len(driver.live) == 1
    later = upload(arrays(3, 8))
    finish(upload)
    assert [int(tensor.min()) for (tensor,) in (under_way, later)] == [1, 3]
    upload.close()
    assert not driver.live


def test_a_call_that_fails_after_its_copy_waits_before_it_frees_the_buffer(
    cuda: FakeCuda, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    with monkeypatch.context() as broken:
        broken.setattr(cuda.default, "wait_event", lambda event: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upload(arrays(1, 8))
    assert not driver.under_way
    assert not driver.live


def test_of_arrays_that_cannot_be_copied_no_buffer_stays(driver: FakeDriver) -> None:
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    with pytest.raises(TypeError, match="Cannot cast"):
        upload([np.full((1, 8, 8, 3), 0.5)])  # type: ignore[list-item]
    assert not driver.live
    (tensor,) = upload(arrays(4, 8))
    finish(upload)
    assert int(tensor.max()) == 4


def test_closing_waits_for_the_copies_and_frees_all(cuda: FakeCuda, driver: FakeDriver) -> None:
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    batches = [upload(arrays(number, 8)) for number in range(3)]
    assert len(driver.under_way) == 3
    upload.close()
    upload.close()
    assert [int(tensor.min()) for (tensor,) in batches] == [0, 1, 2]
    assert not driver.live
    assert not driver.streams
    assert not driver.leaks
    with pytest.raises(RuntimeError, match="freed"):
        upload(arrays(1, 8))


def test_a_ring_that_is_dropped_frees_its_memory_on_any_thread(driver: FakeDriver) -> None:
    kept = [HostUpload(GPU, memory=PyCudaMemory(0))]
    kept[0](arrays(1, 8))
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert not driver.live
    assert not driver.streams
    assert not driver.leaks


def test_three_threads_may_share_a_ring(cuda: FakeCuda, open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory(), max_buffers=2)
    wrong: list[tuple[int, int]] = []
    done: list[int] = []

    def work(number: int) -> None:
        stream = torch.cuda.Stream(GPU)
        with torch.cuda.stream(stream):
            for turn in range(40):
                value = 80 * number + turn
                sizes = (4 + turn % 9, 6)
                tensors = upload(arrays(value, *sizes))
                stream.synchronize()
                found = [tensor.unique().tolist() for tensor in tensors]
                if found != [[value], [value + 1]]:
                    wrong.append((number, turn))
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2]
    assert not wrong
    upload.close()


def test_closing_from_another_thread_does_not_wait_for_a_call_that_hangs(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.staging._CLOSE_SECONDS", 0.01)
    upload = HostUpload(GPU, memory=PyCudaMemory(0))
    with upload._lock:  # a call that hangs
        upload.close()
    assert len(driver.streams) == 1
    upload.close()
    assert not driver.streams


def test_auto_takes_pycuda_where_it_works(driver: FakeDriver) -> None:
    upload = host_upload("auto", GPU)
    assert upload is not None
    assert (upload.memory.name, upload.memory.reason) == ("pycuda", "")
    upload(arrays(1, 8))
    assert driver.flags[-1] == 0  # plain memory
    upload.close()
    assert not driver.live


def test_torch_by_name_leaves_pycuda_alone(driver: FakeDriver) -> None:
    upload = host_upload("torch", torch.device("cuda"))
    assert upload is not None
    assert (upload.memory.name, upload.memory.reason) == ("torch", "asked for")
    assert not driver.has_init


def test_without_pycuda_auto_takes_pytorch_and_says_why(
    driver: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    driver.failure["init"] = LogicError("cuInit failed: no CUDA-capable device is detected")
    upload = host_upload("auto", GPU)
    assert upload is not None
    assert upload.memory.name == "torch"
    assert upload.memory.reason == "PyCUDA: cuInit failed: no CUDA-capable device is detected"
    assert f"not PyCUDA's: {upload.memory.reason}" in caplog.text
    with pytest.raises(ConfigError, match=r'cuInit failed.*pip install "cidc-stream\[pycuda\]"'):
        host_upload("pycuda", GPU)


def test_on_a_cpu_nothing_is_copied_and_pycuda_by_name_is_an_error(driver: FakeDriver) -> None:
    cpu = torch.device("cpu")
    assert host_upload("auto", cpu) is None
    assert host_upload("torch", cpu) is None
    with pytest.raises(ConfigError, match="the network runs on the CPU"):
        host_upload("pycuda", cpu)
    assert not driver.has_init
