"""CUDA graphs by batch size, on captures that replay on the CPU and poison what is left over."""

import logging

import pytest
import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model import ActionNetwork, CIDCConfig, ModelConfig, build_model
from model.inference import BatchRun, Engine, GraphEngine, PyTorchEngine
from model.inference.cuda_graphs import padded_sizes
from model.network import fold_for_inference
from tests.model.test_conv import settle
from tests.support.fake_graphs import GRAPH_BYTES, FakeCapture

CPU = torch.device("cpu")
SHAPE = (3, 32, 32, 48)


@pytest.fixture(scope="module")
def network() -> ActionNetwork:
    torch.manual_seed(0)
    config = ModelConfig(depth=18, width=8, num_classes=5, entry="pooled", cidc=CIDCConfig())
    built = build_model(config)
    settle(built)
    return fold_for_inference(built, torch.float32)


def engine_of(network: ActionNetwork, capture: FakeCapture) -> GraphEngine:
    return GraphEngine(network, shape_CTHW=SHAPE, dtype=torch.float32, device=CPU, capture=capture)


def clips(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(100 * seed + count)
    return torch.randn(count, *SHAPE, generator=generator)


def same(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (6, (1, 2, 4, 6)),
        (8, (1, 2, 4, 8)),
        (33, (1, 2, 4, 8, 16, 32, 33)),
    ],
)
def test_batches_are_padded_to_powers_of_two_and_the_largest(
    max_batch: int, sizes: tuple[int, ...]
) -> None:
    assert padded_sizes(max_batch) == sizes


def test_every_batch_gives_what_the_network_gives(network: ActionNetwork) -> None:
    """Rising, falling and mixed sizes, so that every size follows a larger and a smaller one."""
    capture = FakeCapture()
    engine = engine_of(network, capture)
    engine.prepare(6)
    eager = PyTorchEngine(network)
    counts = [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 6, 1, 3]
    for turn, count in enumerate(counts):
        batch = clips(count, turn)
        same(engine(batch), eager(batch))
    assert capture.replayed == [engine.plan(count).size for count in counts]


def test_the_largest_graph_is_captured_first_and_preparing_twice_changes_nothing(
    network: ActionNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    capture = FakeCapture()
    engine: Engine = engine_of(network, capture)
    assert engine.plan(1) == BatchRun("eager", 1)
    with caplog.at_level(logging.INFO):
        for max_batch in (6, 6, 4):
            engine.prepare(max_batch)
    assert capture.tried == [6, 4, 2, 1]
    assert engine.sizes == (1, 2, 4, 6)
    assert engine.memory_bytes == 4 * GRAPH_BYTES
    assert [record.message for record in caplog.records] == [
        "CUDA graphs for batches of 1, 2, 4, 6 clips take 0 MiB"
    ]
    engine.prepare(7)
    assert capture.tried[4:] == [7, 4, 2, 1]
    batch = clips(7)
    same(engine(batch), PyTorchEngine(network)(batch))


def test_the_smallest_graph_that_is_large_enough_runs(network: ActionNetwork) -> None:
    engine = engine_of(network, FakeCapture())
    engine.prepare(6)
    sizes = [1, 2, 4, 4, 6, 6]
    assert [engine.plan(count + 1) for count in range(6)] == [BatchRun("graph", s) for s in sizes]
    assert engine.plan(7) == BatchRun("eager", 7)
    batch = clips(7)
    same(engine(batch), PyTorchEngine(network)(batch))


def test_results_stay_as_they_are(network: ActionNetwork) -> None:
    engine = engine_of(network, FakeCapture())
    engine.prepare(4)
    first = engine(clips(3))
    kept = first.clone()
    for count in (3, 1, 4):
        engine(clips(count, seed=1))
    assert torch.equal(first, kept)
    assert first.untyped_storage().nbytes() == 3 * 5 * 4


def test_a_broken_clip_spoils_neither_its_batch_nor_later_ones(network: ActionNetwork) -> None:
    engine = engine_of(network, FakeCapture())
    engine.prepare(4)
    batch = clips(4)
    expected = PyTorchEngine(network)(batch)
    batch[2] = float("inf")
    found = engine(batch)
    assert not torch.allclose(found[2], expected[2], atol=1e-2)
    same(found[[0, 1, 3]], expected[[0, 1, 3]])
    same(engine(clips(3)), PyTorchEngine(network)(clips(3)))


def test_too_little_memory_for_one_size_leaves_the_smaller_ones(
    network: ActionNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    capture = FakeCapture({8: short, 4: short})
    engine = engine_of(network, capture)
    with caplog.at_level(logging.WARNING):
        engine.prepare(8)
    assert capture.tried == [8, 4, 2, 1]
    assert engine.sizes == (1, 2)
    assert [record.message for record in caplog.records] == [
        "no CUDA graph for batches of 4, 8 clips, which run eagerly: too little GPU memory"
    ]
    assert engine.plan(2) == BatchRun("graph", 2)
    assert [engine.plan(count) for count in (3, 8)] == [BatchRun("eager", 3), BatchRun("eager", 8)]
    for count in (2, 3, 8):
        batch = clips(count)
        same(engine(batch), PyTorchEngine(network)(batch))


@pytest.mark.parametrize("kind", [RuntimeError, KernelError])
def test_what_cannot_be_captured_runs_eagerly(
    network: ActionNetwork, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    capture = FakeCapture({4: kind("not permitted when stream is capturing\nmore")})
    engine = engine_of(network, capture)
    with caplog.at_level(logging.WARNING):
        engine.prepare(4)
        engine.prepare(4)
    assert capture.tried == [4]
    assert engine.name == "eager"
    assert [record.message for record in caplog.records] == [
        "no CUDA graph for batches of 1, 2, 4 clips, which run eagerly:"
        " not permitted when stream is capturing"
    ]
    same(engine(clips(3)), PyTorchEngine(network)(clips(3)))


def test_the_first_of_several_errors_is_told(
    network: ActionNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    """An error inside a capture makes its end fail, too, and PyTorch raises the second one."""
    second = RuntimeError("the capture failed due to an earlier error")
    second.__context__ = RuntimeError("the operation that cannot be captured")
    engine = engine_of(network, FakeCapture({1: second}))
    with caplog.at_level(logging.WARNING):
        engine.prepare(1)
    assert "the operation that cannot be captured" in caplog.text


def test_clips_of_another_shape_are_refused(network: ActionNetwork) -> None:
    engine = engine_of(network, FakeCapture())
    engine.prepare(2)
    with pytest.raises(ShapeError, match=r"prepared for clips B 3 32 32 48, got \(1, 3, 32, 64"):
        engine(torch.zeros(1, 3, 32, 64, 64))
