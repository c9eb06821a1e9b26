"""The analysis and the network on streams of their own: neither waits where it need not."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.device_streams import DeviceStream
from model.inference import BatchRun
from model.media.dali_runner import DaliRunner
from model.media.preprocess import PreprocessConfig, Preprocessor
from stream.analysis.backlog import Backlog
from stream.analysis.clip_stage import ClipStage
from stream.analysis.config import BatchConfig
from stream.analysis.inbox import Inbox
from stream.analysis.inference_stage import InferenceStage
from stream.analysis.ring import ClipRing
from stream.cameras.config import CameraConfig
from stream.metrics import Metrics
from stream.types import CameraOpened, ClipBatch, ClipResults, SampledFrame
from tests.support.fake_cuda import FakeCuda, FakeDali
from tests.support.waiting import until

GPU = torch.device("cuda", 0)


class SlowNetwork:
    """A network whose work on the device lasts until `held` of its stream is false."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.stream = DeviceStream(GPU)
        self.fake = cuda.streams[-1]
        self.fake.held = True
        self.released = threading.Event()
        self.calls = 0
        self.fails = False

    def probabilities(self, clips_BCTHW: Tensor) -> Tensor:
        """Put the network on the current stream; then fetch the result, which waits for it."""
        if self.fails:
            raise RuntimeError("the network failed")
        self._cuda.current().put("network", lambda: None)
        self.calls += 1
        self.released.wait(10)
        self._cuda.current().synchronize()
        return torch.zeros(len(clips_BCTHW), 2)

    def plan(self, clips: int) -> BatchRun:
        """Pad to four clips."""
        return BatchRun("graph", 4)


class Results:
    """Takes results and notes them."""

    def __init__(self) -> None:
        self.batches: list[ClipResults] = []
        self.is_finished = False

    def open(self, opened: CameraOpened) -> None:
        """Do nothing."""

    def push(self, results: ClipResults) -> None:
        """Note the results."""
        self.batches.append(results)

    def interrupt(self, broken: object) -> None:
        """Do nothing."""

    def tick(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Note the end."""
        self.is_finished = True


class Rig:
    """Both stages on fake streams, with DALI's graphs replaced by fakes and clips of 4 frames."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuda = FakeCuda(monkeypatch)
        monkeypatch.setattr(
            DaliRunner,
            "_built",
            lambda runner, define, arguments: FakeDali(
                self.cuda, arguments["height"], arguments["width"]
            ),
        )
        self.network = SlowNetwork(self.cuda)
        self.inbox = Inbox(256)
        self.backlog = Backlog(max_batches=64, max_batch=1)
        self.results = Results()
        self.metrics = metrics = Metrics()
        config = PreprocessConfig(short_side=32, height=32, width=48)
        self.clips = ClipStage(
            BatchConfig(max_batch=1, frames_at_once=16),
            stride=1,
            inbox=self.inbox,
            backlog=self.backlog,
            ring=ClipRing(1, height=32, width=48, frames=4),
            preprocessor=Preprocessor(config, max_batch=16, device="gpu"),
            gather=self.gather,
            metrics=metrics,
            stream=DeviceStream(GPU),
        )
        self.analysis = self.cuda.streams[-1]
        self.inference = InferenceStage(
            self.network, backlog=self.backlog, consumer=self.results, metrics=metrics
        )
        self.inbox.put(CameraOpened(CameraConfig(id="c", url="rtsp://h/x"), 1))

    def gather(self, ring_STHWC: Tensor, places: list[tuple[int, int]]) -> Tensor:
        """Put a gather on the current stream."""
        self.cuda.current().put("gather", lambda: None)
        return torch.zeros(len(places), 3, 4, 32, 48)

    def put(self, frames: int) -> None:
        for number in range(frames):
            frame_HWC = np.full((40, 60, 3), number, np.uint8)
            self.inbox.put(SampledFrame("c", frame_HWC, number / 15, 0.0, 0.0))

    def names(self, stream: Any) -> list[str]:
        return [name for where, name in self.cuda.done if where == stream.name]


def test_preprocessing_goes_on_while_the_network_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.inference.start()
    rig.put(4)
    rig.clips.start()
    assert until(lambda: rig.network.calls == 1)  # the network is busy from here on
    for _ in range(8):
        rig.put(16)
        assert until(lambda: len(rig.inbox) == 0)
    rig.inbox.close()
    assert rig.clips.join(10)
    assert rig.clips.failure is None
    assert not rig.results.batches
    # The analysis waited for nothing but its own streams, and their work is done or can be.
    upload = rig.clips.preprocessor.upload
    assert upload is not None
    copying = upload.memory.stream
    waits = {stream for thread, stream in rig.cuda.waits if thread == "analysis"}
    assert waits <= {rig.analysis.name, copying.name}
    rig.analysis.synchronize()
    assert rig.names(copying).count("copy") >= 8
    assert "network" not in rig.names(rig.network.fake)
    rig.network.fake.held = False
    rig.network.released.set()
    assert rig.inference.join(10)
    assert rig.inference.failure is None
    assert rig.results.is_finished
    assert rig.names(rig.network.fake).count("network") == rig.network.calls >= 1


def test_the_network_starts_after_the_gather_of_its_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.network.fake.held = False
    rig.network.released.set()
    rig.put(6)
    rig.inbox.close()
    rig.clips.run()
    # Nothing has run on the device so far; the network's stream draws the gathers along.
    assert "gather" not in rig.names(rig.analysis)
    rig.inference.run()
    order = [name for _, name in rig.cuda.done if name in ("gather", "network")]
    assert order == ["gather", "network"] * 3
    # The clips are memory of the analysis stream that the network's stream reads.
    assert rig.cuda.kept.count(rig.network.fake.name) == 3
    batches = rig.metrics.network_batches
    assert rig.metrics.by_label(batches, "size", engine="graph") == {"4": 3}
    assert rig.metrics.total(rig.metrics.padded_clips) == 3 * 3


def test_a_network_that_fails_leaves_its_stream_and_keeps_no_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch)
    rig.network.fails = True
    rig.put(4)
    rig.inbox.close()
    rig.clips.run()
    with pytest.raises(RuntimeError, match="the network failed"):
        rig.inference.run()
    assert rig.cuda.current() is rig.cuda.default


def test_without_cuda_a_batch_has_no_event() -> None:
    stream = DeviceStream(torch.device("cpu"))
    batch = ClipBatch(torch.zeros(1), (), stream.record())
    assert batch.ready is None
