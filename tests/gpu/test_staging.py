"""Copies through page-locked memory on a GPU, by PyTorch and by PyCUDA."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.pycuda_memory import PyCudaMemory, why_not_pycuda
from model.staging import HostMemory, HostUpload, TorchMemory

GPU = torch.device("cuda", 0)
Open = Callable[[], HostMemory]


def pycuda_memory(*, is_write_combined: bool = False) -> HostMemory:
    """Open PyCUDA's memory; without PyCUDA the test is skipped."""
    if reason := why_not_pycuda(0):
        pytest.skip(f"PyCUDA cannot be used: {reason}")
    return PyCudaMemory(0, is_write_combined=is_write_combined)


@pytest.fixture(params=["torch", "pycuda", "write-combined"])
def open_memory(request: pytest.FixtureRequest) -> Open:
    return {
        "torch": lambda: TorchMemory(GPU),
        "pycuda": pycuda_memory,
        "write-combined": lambda: pycuda_memory(is_write_combined=True),
    }[request.param]


def frames(seed: int, *heights: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (1, height, 910, 3), dtype=np.uint8) for height in heights]


def test_bytes_arrive_and_no_context_is_left_current(open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    for seed in range(20):
        given = frames(seed, 512, 1 + seed, 40 * seed + 3)
        tensors = upload([each[:, :, 5:600] for each in given])
        for tensor, each in zip(tensors, given, strict=True):
            np.testing.assert_array_equal(tensor.cpu().numpy(), each[:, :, 5:600])
    upload.close()
    if upload.memory.name == "pycuda":
        import pycuda.driver

        assert pycuda.driver.Context.get_current() is None
    assert torch.cuda.current_device() == 0
    assert int(torch.ones(5, device=GPU).sum()) == 5


def test_the_order_of_streams_holds_while_the_device_is_busy(open_memory: Open) -> None:
    """What a late stream reads is not overwritten by later copies, nor read before it is there."""
    upload = HostUpload(GPU, memory=open_memory())
    callers = [torch.cuda.Stream(GPU) for _ in range(3)]
    sums = []
    expected = []
    for turn in range(60):
        given = frames(turn, 300)
        expected.append(int(given[0].sum(dtype=np.int64)))
        with torch.cuda.stream(callers[turn % 3]):
            if turn % 4 == 0:
                torch.cuda._sleep(20_000_000)
            (tensor,) = upload(given)
            sums.append(tensor.sum(dtype=torch.int64))
            del tensor  # its memory is given to a later copy
    torch.cuda.synchronize()
    assert [int(each) for each in sums] == expected
    upload.close()


def test_a_copy_runs_beside_a_stream_that_is_busy(open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    upload(frames(0, 512))
    torch.cuda.synchronize()  # from now on, nothing has to be allocated
    busy = torch.cuda.Stream(GPU)
    with torch.cuda.stream(busy):
        torch.cuda._sleep(2_000_000_000)
        upload(frames(1, 512))
        upload.memory.stream.synchronize()
    assert not busy.query()
    torch.cuda.synchronize()
    upload.close()


def test_page_locked_memory_is_freed() -> None:
    memory = pycuda_memory()
    assert isinstance(memory, PyCudaMemory)
    buffer = memory.allocate(64 << 20)
    allocation = memory._live[buffer.data_ptr()].base
    with memory._context.current():
        assert isinstance(allocation.get_flags(), int)
    memory.free(buffer)
    # The driver does not know the address any more.
    with pytest.raises(RuntimeError, match="PyCUDA"), memory._context.current():
        allocation.get_flags()
    memory.close()
    assert memory.is_idle()


def test_tensors_outlive_the_ring(open_memory: Open) -> None:
    upload = HostUpload(GPU, memory=open_memory())
    given = frames(3, 512)
    (tensor,) = upload(given)
    upload.close()
    np.testing.assert_array_equal(tensor.cpu().numpy(), given[0])
    del tensor
    torch.cuda.empty_cache()
