"""From frames to clips: regions, frames too flat to use, restarts."""

from typing import Any

import numpy as np
import pytest
import torch

from model.media.preprocess import PreprocessConfig, Preprocessor
from stream.analysis.backlog import Backlog, Work
from stream.analysis.clip_stage import ClipStage
from stream.analysis.config import BatchConfig
from stream.analysis.crop import crop
from stream.analysis.inbox import Inbox
from stream.analysis.ring import ClipRing
from stream.cameras.config import CameraConfig, RegionConfig
from stream.metrics import Metrics
from stream.types import BreakReason, CameraOpened, ClipBatch, SampledFrame, StreamBreak

FRAME = np.zeros((720, 1280, 3), np.uint8)


class Rig:
    """The analysis of one camera, with clips of four frames and a network that is never behind."""

    def __init__(self, **camera: Any) -> None:
        self.config = CameraConfig(id="c", url="rtsp://h/x", **camera)
        self.metrics = Metrics()
        self.inbox = Inbox(64)
        self.backlog = Backlog(max_batches=64, max_batch=8)
        self.ring = ClipRing(4, height=8, width=8, frames=4)
        self.stage = ClipStage(
            BatchConfig(),
            stride=2,
            inbox=self.inbox,
            backlog=self.backlog,
            ring=self.ring,
            preprocessor=lambda crops: torch.zeros(len(crops), 1, 8, 8, 3, dtype=torch.uint8),  # type: ignore[arg-type]
            gather=lambda ring, windows: torch.zeros(len(windows)),
            metrics=self.metrics,
        )
        self.open(1)

    def open(self, generation: int, config: CameraConfig | None = None) -> None:
        self.inbox.put(CameraOpened(config or self.config, generation))

    def put(self, frames: int, frame_HWC: Any = FRAME) -> None:
        for number in range(frames):
            self.inbox.put(SampledFrame("c", frame_HWC, number / 15, 0.0, 0.0))

    def interrupt(self, reason: BreakReason, generation: int = 1) -> None:
        self.inbox.put(StreamBreak("c", reason, generation))

    def work(self) -> list[Work]:
        """Everything that reaches the network."""
        self.inbox.close()
        self.stage.run()
        found: list[Work] = []
        while (work := self.backlog.take(0)) is not None:
            found.append(work)
        assert self.backlog.is_drained
        return found

    def finish(self) -> list[tuple[str | None, float]]:
        """Region and time of the clips."""
        batches = [work for work in self.work() if isinstance(work, ClipBatch)]
        return [(ref.view.region, ref.pts_end_seconds) for batch in batches for ref in batch.refs]


def test_a_narrow_region_does_not_affect_the_others() -> None:
    rig = Rig(
        regions=[
            {"id": "door", "right": 0.5},
            {"id": "kerb", "top": 0.8},
            {"id": "pole", "left": 0.95},
        ]
    )
    rig.put(4)
    assert {region for region, _ in rig.finish()} == {"door", "kerb", "pole"}
    assert rig.metrics.total(rig.metrics.corrupt) == 0


def test_a_frame_too_flat_to_use_restarts_the_clip() -> None:
    rig = Rig()
    rig.put(3)
    rig.put(1, np.zeros((2, 1280, 3), np.uint8))
    rig.put(3)
    assert rig.finish() == []
    assert rig.metrics.total(rig.metrics.corrupt) == 1


@pytest.mark.parametrize("size", [(40, 1200), (1200, 40), (50, 2000)])
def test_cutting_the_ends_of_a_long_strip_does_not_change_the_result(size: tuple[int, int]) -> None:
    height, width = size
    strip_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cut_HWC = crop(strip_HWC, RegionConfig(id="r"))
    assert max(cut_HWC.shape) <= 8 * min(cut_HWC.shape[:2])
    preprocess = Preprocessor(PreprocessConfig(short_side=64, height=64, width=64), max_batch=1)
    whole = preprocess([strip_HWC[None]]).clone()
    difference = (preprocess([cut_HWC[None]]).int() - whole.int()).abs()
    # a shift of a fraction of a pixel, from another rounding of the size
    assert difference.float().mean() < 1


def test_a_restarted_camera_gets_a_slot_of_its_own() -> None:
    rig = Rig()
    rig.put(2)
    rig.interrupt(BreakReason.CHANGED)
    rig.open(2)
    rig.put(13)
    assert [round(seconds * 15) for _, seconds in rig.finish()] == [3, 5, 7, 9, 11]
    assert rig.ring.free == 3


def test_a_break_of_an_earlier_opening_does_not_end_a_later_one() -> None:
    rig = Rig()
    rig.put(3)
    rig.open(2)
    rig.interrupt(BreakReason.REMOVED, generation=1)
    rig.put(1)
    assert len(rig.finish()) == 1
    assert rig.ring.free == 3


def test_frames_of_a_camera_that_is_gone_are_dropped() -> None:
    rig = Rig()
    rig.put(2)
    rig.interrupt(BreakReason.REMOVED)
    rig.put(9)
    work = rig.work()
    assert [type(item).__name__ for item in work] == ["CameraOpened", "StreamBreak"]
    assert rig.ring.free == 4


def test_new_settings_apply_from_the_opening_on() -> None:
    rig = Rig()
    rig.put(4)
    rig.interrupt(BreakReason.CHANGED)
    rig.open(2, rig.config.model_copy(update={"hop": 1}))
    rig.put(7)
    assert [round(seconds * 15) for _, seconds in rig.finish()] == [3, 3, 4, 5, 6]
