"""CUDA graphs of the network against the network itself, called operator by operator."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

pytest.importorskip("pydantic")
from model.cidc import use_mixing
from model.device_streams import DeviceStream
from model.inference import BatchRun, GraphEngine, PyTorchEngine
from model.mixing import MixingPath
from model.network import ActionNetwork, fold_for_inference
from tests.gpu.test_network import small_network

SHAPE = (3, 32, 64, 64)
GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 proper: algorithms may differ between batch sizes."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on_gpu(dtype: torch.dtype, path: MixingPath) -> ActionNetwork:
    folded = fold_for_inference(small_network(), dtype).to(GPU)
    use_mixing(folded, path)
    return folded


def prepared(network: ActionNetwork, dtype: torch.dtype, max_batch: int) -> GraphEngine:
    engine = GraphEngine(network, shape_CTHW=SHAPE, dtype=dtype, device=GPU)
    with DeviceStream(GPU):
        engine.prepare(max_batch)
    return engine


def clips(count: int, dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(count, *SHAPE, device=GPU, dtype=dtype)
    return drawn.contiguous(memory_format=torch.channels_last_3d)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    largest = expected.abs().max()
    torch.testing.assert_close(found / largest, expected / largest, atol=tolerance, rtol=0)


@contextmanager
def busy_thread() -> Iterator[threading.Event]:
    """Let another thread allocate, compute and copy on a stream of its own, as DALI's threads do.

    Yields an event that is set if that thread failed.
    """
    stop, failed, started = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        sizes = 0
        try:
            with DeviceStream(GPU):
                while not stop.is_set():
                    sizes = sizes % 64 + 1
                    values = torch.ones(sizes, 1 << 20, device=GPU)
                    assert float((values * 2).sum()) == 2 * values.numel()
                    started.set()
                    del values
        except BaseException:
            failed.set()
            started.set()
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield failed
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.parametrize("path", ["cuda", "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
def test_graphs_give_what_the_network_gives(
    path: MixingPath, dtype: torch.dtype, tolerance: float
) -> None:
    network = on_gpu(dtype, path)
    engine = prepared(network, dtype, 6)
    assert engine.sizes == (1, 2, 4, 6)
    eager = PyTorchEngine(network)
    with DeviceStream(GPU):
        for count in (6, 1, 5, 2, 4, 3, 1, 6):
            assert engine.plan(count).engine == "graph"
            batch = clips(count, dtype)
            close(engine(batch), eager(batch), tolerance)


def test_results_stay_and_larger_batches_run_without_a_graph() -> None:
    network = on_gpu(torch.float32, "auto")
    engine = prepared(network, torch.float32, 2)
    with DeviceStream(GPU):
        first = engine(clips(2, torch.float32))
        kept = first.clone()
        engine(clips(1, torch.float32))
        assert torch.equal(first, kept)
        batch = clips(3, torch.float32)
        assert engine.plan(3) == BatchRun("eager", 3)
        close(engine(batch), PyTorchEngine(network)(batch), 2e-3)


def test_a_broken_clip_spoils_no_other_clip() -> None:
    network = on_gpu(torch.float32, "auto")
    engine = prepared(network, torch.float32, 4)
    with DeviceStream(GPU):
        engine(torch.full_like(clips(4, torch.float32), float("nan")))
        batch = clips(3, torch.float32)
        close(engine(batch), PyTorchEngine(network)(batch), 2e-3)


def test_capture_and_replay_while_another_thread_uses_the_device() -> None:
    """Captures are `thread_local`, so neither thread's calls make the other's fail."""
    network = on_gpu(torch.bfloat16, "auto")
    with busy_thread() as failed:
        engine = prepared(network, torch.bfloat16, 4)
        assert engine.sizes == (1, 2, 4)
        eager = PyTorchEngine(network)
        with DeviceStream(GPU):
            for count in (4, 3, 2, 1) * 5:
                batch = clips(count, torch.bfloat16)
                close(engine(batch), eager(batch), 5e-2)
        assert not failed.is_set()


def test_the_memory_that_graphs_take_is_reported() -> None:
    engine = prepared(on_gpu(torch.bfloat16, "auto"), torch.bfloat16, 4)
    buffer = 4 * 3 * 32 * 64 * 64 * 2
    assert buffer < engine.memory_bytes <= torch.cuda.memory_reserved(GPU)
