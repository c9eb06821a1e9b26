"""Streams of threads, on fake streams that show what waits for what."""

import pytest
import torch

from model.device_streams import DeviceStream
from tests.support.fake_cuda import FakeCuda

GPU = torch.device("cuda", 0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


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
