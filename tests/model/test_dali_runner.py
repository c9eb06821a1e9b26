"""Preprocessing for a GPU on fake streams: nothing waits, nothing is read late, all is freed."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from configs import DeviceMemoryError, MediaError, ShapeError
from model.device_streams import DeviceStream
from model.media import dali_graph
from model.media.dali_runner import DaliRunner
from model.media.preprocess import CropSpec, EncodedClip, PreprocessConfig, Preprocessor
from model.pycuda_memory import PyCudaMemory
from model.staging import HostUpload
from tests.support import fake_pycuda
from tests.support.fake_cuda import FakeCuda, FakeDali

CONFIG = PreprocessConfig(short_side=32, height=32, width=48)
CLIP = EncodedClip(np.zeros(100, np.uint8), np.array([0, 1], np.int32))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def built(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> "weakref.WeakSet[FakeDali]":
    """All graphs that exist; they take the place of DALI's."""
    graphs: weakref.WeakSet[FakeDali] = weakref.WeakSet()

    def build(runner: object, define: object, arguments: dict[str, Any]) -> FakeDali:
        graph = FakeDali(cuda, arguments["height"], arguments["width"])
        graphs.add(graph)
        return graph

    monkeypatch.setattr(DaliRunner, "_built", build)
    return graphs


def frames(*values: int) -> list[np.ndarray]:
    return [
        np.full((1, 40 + 8 * index, 60, 3), value, np.uint8) for index, value in enumerate(values)
    ]


def test_no_call_waits_for_another_stream_that_is_busy(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]"
) -> None:
    network = DeviceStream(torch.device("cuda"))
    cuda.streams[0].put("network", lambda: None)
    cuda.streams[0].held = True
    graph = Preprocessor(CONFIG, max_batch=4, device="gpu")
    results = []
    with DeviceStream(torch.device("cuda")):
        analysis = cuda.current()
        # Two runs of 3 frames fit the page-locked buffers, so the host waits for nothing at all.
        for number in (0, 10):
            results.append(graph(frames(number, number + 1, number + 2)))
        assert not cuda.waits
        for number in (20, 30, 40, 50, 60):
            results.append(graph(frames(number, number + 1, number + 2)))
        assert graph.upload is not None
        copies = graph.upload.memory.stream
        assert {stream for _, stream in cuda.waits} == {analysis.name, copies.name}
        analysis.synchronize()
    assert ("stream 0", "network") not in cuda.done
    del network
    for number, result in enumerate(results):
        values = [10 * number, 10 * number + 1, 10 * number + 2]
        assert result.shape == (3, 1, 32, 48, 3)
        assert [frame.unique().tolist() for frame in result] == [[value] for value in values]


def test_arrays_and_tensors_of_the_device_come_in_one_call(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    graph = Preprocessor(CONFIG, max_batch=4, device="gpu")
    with DeviceStream(torch.device("cuda")):
        wide = torch.full((1, 50, 90, 3), 77, dtype=torch.uint8)
        first, last = frames(5, 6)
        result = graph([first, wide[:, :, 10:40], last])
        stream_name = cuda.current().name
        cuda.current().synchronize()
    assert [frame.unique().tolist() for frame in result] == [[5], [77], [6]]
    # Memory of the copies and of the tensor is not given away before this stream has read it.
    assert cuda.kept == [stream_name, stream_name]


def test_frames_go_through_the_memory_that_is_given_and_closing_frees_it(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = fake_pycuda.install(cuda, monkeypatch)
    upload = HostUpload(torch.device("cuda", 0), memory=PyCudaMemory(0))
    graph = Preprocessor(CONFIG, max_batch=4, device="gpu", upload=upload)
    results = [graph(frames(number, number + 1)) for number in (1, 11, 21, 31, 41)]
    assert not cuda.page_locked
    assert len(driver.live) <= 3
    graph.close()
    assert not driver.live
    cuda.default.synchronize()
    values = [[frame.unique().tolist() for frame in result] for result in results]
    assert values == [[[number], [number + 1]] for number in (1, 11, 21, 31, 41)]


def test_tensors_are_kept_until_the_device_has_read_them(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that PyTorch did not allocate is freed with its tensor, whatever streams do."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    graph = Preprocessor(CONFIG, max_batch=1, device="gpu")
    tensors = [torch.full((1, 40, 60, 3), value, dtype=torch.uint8) for value in range(9)]
    alive = [weakref.ref(tensor) for tensor in tensors]
    while tensors:
        graph([tensors.pop(0)])
    # The device has done nothing but what the host waited for: all but the last four runs.
    gc.collect()
    assert {stream for _, stream in cuda.waits} == {"default"}
    assert [tensor() is not None for tensor in alive] == [False] * 5 + [True] * 4
    cuda.default.synchronize()
    graph([torch.zeros((1, 40, 60, 3), dtype=torch.uint8)])
    gc.collect()
    assert not any(tensor() is not None for tensor in alive)


def test_a_tensor_on_another_device_is_refused(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]"
) -> None:
    on_cpu = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    with pytest.raises(ShapeError, match=r"graph's device \(gpu\), got one on cpu"):
        Preprocessor(CONFIG, max_batch=1, device="gpu")([on_cpu])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cannot decode", RuntimeError), ("CUDA allocation failed", DeviceMemoryError)],
)
def test_a_run_that_fails_releases_its_graph_and_inputs(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", text: str, expected: type[Exception]
) -> None:
    graph = Preprocessor(CONFIG, max_batch=4, device="gpu")
    graph(frames(1))
    (broken,) = built
    broken.failure = RuntimeError(text)
    del broken
    for _ in range(2):
        given = frames(2)
        inputs = weakref.ref(given[0])
        with pytest.raises(expected, match=text):
            graph(given)
        del given
        gc.collect()
        assert inputs() is None
        assert not built
        # The next call builds the graph again.
        result = graph(frames(3))
        assert len(built) == 1
        cuda.default.synchronize()
        assert result.unique().tolist() == [3]
        next(iter(built)).failure = RuntimeError(text)


def test_too_little_memory_for_the_copy_is_named(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(size: int, device: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("model.staging._device_memory", fail)
    with pytest.raises(DeviceMemoryError, match=r"than GPU 0 has left for 4 clips.*2\.00 GiB"):
        Preprocessor(CONFIG, max_batch=4, device="gpu")(frames(1))


def test_a_video_that_does_not_decode_does_not_disturb_the_next(
    cuda: FakeCuda, built: "weakref.WeakSet[FakeDali]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(graph: FakeDali, stream: object) -> None:
        raise RuntimeError("cannot decode")

    graph = Preprocessor(CONFIG, max_batch=1, device="gpu")
    with monkeypatch.context() as broken:
        broken.setattr(FakeDali, "run", fail)
        with pytest.raises(MediaError, match="one of 1 videos: cannot decode"):
            graph.decode([CLIP], [CropSpec(0)])
    gc.collect()
    assert len(built) == 1  # the graph of frames, which did not fail
    result = graph(frames(3))
    cuda.default.synchronize()
    assert result.unique().tolist() == [3]


def test_on_a_gpu_runs_are_asynchronous_and_on_a_cpu_they_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[dict[str, Any]] = []

    class Pipeline:
        def build(self) -> None:
            """Do nothing."""

    def define(device: str, **settings: Any) -> Pipeline:
        found.append({"device": device, **settings})
        return Pipeline()

    monkeypatch.setattr(dali_graph, "clip_graph", define)
    for device in ("cpu", "gpu"):
        DaliRunner(device, gpu=1, max_batch=2, threads=3).build(  # type: ignore[arg-type]
            "clip_graph", height=4, width=5
        )
    on_cpu, on_gpu = found
    for settings in found:
        assert settings["prefetch_queue_depth"] == 1
        assert (settings["batch_size"], settings["num_threads"]) == (2, 3)
    modes = ("exec_dynamic", "exec_async", "exec_pipelined")
    assert [on_cpu[mode] for mode in modes] == [False] * 3
    assert [on_gpu[mode] for mode in modes] == [True] * 3
    assert (on_cpu["device_id"], on_gpu["device_id"]) == (None, 1)


def test_dynamic_execution_gives_the_same_frames_and_keeps_them() -> None:
    """The settings of GPUs, with DALI on the CPU: no later run overwrites a result."""
    import torch.utils.dlpack

    settings = {"batch_size": 2, "num_threads": 1, "prefetch_queue_depth": 1, "device_id": None}
    pipeline = dali_graph.clip_graph(
        "cpu", 32, 48, **settings, exec_dynamic=True, exec_async=True, exec_pipelined=True
    )
    graph = Preprocessor(CONFIG, max_batch=2)
    rng = np.random.default_rng(1)
    ours, theirs = [], []
    for _ in range(4):
        clip_FHWC = rng.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
        theirs.append(graph([clip_FHWC]).clone())
        inputs: dict[str, Any] = {
            "frames": [clip_FHWC],
            "short_side": [np.float32(32)],
            "crop_x": [np.float32(0.5)],
            "crop_y": [np.float32(0.5)],
            "mirror": [np.int32(0)],
        }
        for name, values in inputs.items():
            pipeline.feed_input(name, values)
        (output,) = pipeline.run()
        ours.append(torch.utils.dlpack.from_dlpack(output.as_tensor()))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_tensors_on_the_cpu_give_what_arrays_give() -> None:
    graph = Preprocessor(CONFIG, max_batch=2)
    clip_FHWC = np.random.default_rng(2).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    expected = graph([clip_FHWC[:, 3:], clip_FHWC]).clone()
    tensor = torch.from_numpy(clip_FHWC)
    assert torch.equal(graph([tensor[:, 3:], clip_FHWC]), expected)
    with pytest.raises(ShapeError, match=r"uint8 F H W 3, got torch\.float32"):
        graph([tensor.float()])
