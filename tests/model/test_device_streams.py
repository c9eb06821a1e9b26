"""Streams and copies to the device, on fake streams that show what waits for what."""

import gc
import weakref

import numpy as np
import pytest
import torch

from model.device_streams import DeviceStream, HostUpload
from tests.support.fake_cuda import FakeCuda

GPU = torch.device("cuda", 0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def arrays(value: int, *sizes: int) -> list[np.ndarray]:
    return [
        np.full((1, size, size, 3), value + index, np.uint8) for index, size in enumerate(sizes)
    ]


def test_on_a_cpu_nothing_happens(cuda: FakeCuda) -> None:
    stream = DeviceStream(torch.device("cpu"))
    with stream:
        stream.wait(stream.record())
        stream.keep(torch.zeros(1))
    assert stream.record() is None
    assert stream.handle == 0
    assert not cuda.streams
    assert not cuda.kept


def test_a_stream_is_current_inside_with_and_starts_after_what_the_thread_did(
    cuda: FakeCuda,
) -> None:
    cuda.default.put("weights", lambda: None)
    stream = DeviceStream(GPU)
    with stream:
        assert cuda.current() is cuda.streams[0]
        cuda.current().put("network", lambda: None)
        stream.keep(torch.zeros(1))
    assert cuda.current() is cuda.default
    assert cuda.kept == ["stream 0"]
    assert not cuda.waits
    cuda.streams[0].synchronize()
    names = [name for _, name in cuda.done]
    assert names.index("weights") < names.index("network")


def test_a_stream_is_left_when_its_thread_fails(cuda: FakeCuda) -> None:
    with pytest.raises(RuntimeError, match="lost"), DeviceStream(GPU):
        raise RuntimeError("lost")
    assert cuda.current() is cuda.default


def test_a_stream_may_be_entered_again_inside(cuda: FakeCuda) -> None:
    stream = DeviceStream(GPU)
    with stream:
        with stream:
            assert cuda.current() is cuda.streams[0]
        assert cuda.current() is cuda.streams[0]
    assert cuda.current() is cuda.default


def test_waiting_for_an_event_orders_streams_and_not_the_host(cuda: FakeCuda) -> None:
    first, second = DeviceStream(GPU), DeviceStream(GPU)
    with first:
        cuda.current().put("gather", lambda: None)
        ready = first.record()
    with second:
        second.wait(ready)
        cuda.current().put("network", lambda: None)
    assert not cuda.waits
    cuda.streams[1].synchronize()
    names = [name for _, name in cuda.done]
    assert names.index("gather") < names.index("network")


def test_arrays_arrive_whole_and_may_be_changed_at_once(cuda: FakeCuda) -> None:
    upload = HostUpload(GPU)
    wide = np.random.default_rng(0).integers(0, 256, (2, 7, 40, 3), dtype=np.uint8)
    strided = wide[:, :, 3:20]
    expected = [strided.copy(), np.full((1, 5, 5, 3), 9, np.uint8)]
    given = [strided, expected[1].copy()]
    tensors = upload(given)
    for array in given:
        array[:] = 0
    cuda.default.synchronize()
    for tensor, array in zip(tensors, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_page_locked_buffer_is_filled_again_only_after_its_event(cuda: FakeCuda) -> None:
    upload = HostUpload(GPU, max_buffers=3)
    batches = [upload(arrays(10 * number, 8, 8)) for number in range(3)]
    assert len(cuda.page_locked) == 3  # none of the copies has been done
    assert not cuda.waits
    batches.append(upload(arrays(30, 8, 8)))  # waits for the oldest and takes its buffer
    assert cuda.waits == [("MainThread", "default")]
    assert len(cuda.page_locked) == 3
    cuda.default.synchronize()
    values = [[int(tensor[0, 0, 0, 0]) for tensor in batch] for batch in batches]
    assert values == [[0, 1], [10, 11], [20, 21], [30, 31]]
    assert all(bool((tensor == tensor[0, 0, 0, 0]).all()) for batch in batches for tensor in batch)


def test_a_buffer_that_is_done_is_used_again_without_waiting(cuda: FakeCuda) -> None:
    upload = HostUpload(GPU)
    for number in range(20):
        upload(arrays(number, 8))
        cuda.default.advance(cuda.default.record_event())
    assert len(cuda.page_locked) == 1
    assert not cuda.waits


def test_a_larger_batch_gets_a_larger_buffer(cuda: FakeCuda) -> None:
    upload = HostUpload(GPU)
    for sizes in ((8,), (64, 64), (8,), (64, 64)):
        tensors = upload(arrays(5, *sizes))
        cuda.default.advance(cuda.default.record_event())
        assert [int(tensor.max()) for tensor in tensors] == [5, 6][: len(sizes)]
    assert len(cuda.page_locked) == 2


def test_a_copy_that_fails_leaves_nothing_behind(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = HostUpload(GPU)
    with monkeypatch.context() as broken:
        broken.setattr("model.device_streams._copied", lambda host, device: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            upload(arrays(1, 8))
    lost = weakref.ref(cuda.page_locked.pop())
    gc.collect()
    assert lost() is None
    (tensor,) = upload(arrays(7, 8))
    cuda.default.synchronize()
    assert int(tensor.min()) == 7
