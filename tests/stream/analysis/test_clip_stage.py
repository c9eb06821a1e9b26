"""From frames to clips: regions, frames too flat to use, restarts."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from model.media.preprocess import PreprocessConfig, Preprocessor
from stream.analysis.clip_stage import Analysis, Clips, _crop
from stream.analysis.config import BatchConfig
from stream.analysis.inbox import Inbox
from stream.analysis.ring import ClipRing
from stream.cameras.config import CameraConfig, RegionConfig
from stream.metrics import Metrics
from stream.types import SampledFrame, StreamBreak

PICTURE = np.zeros((720, 1280, 3), np.uint8)


class Rig:
    """The analysis of one camera, with clips of four frames and a network that is never behind."""

    def __init__(self, **camera: Any) -> None:
        camera_config = CameraConfig(id="c", url="rtsp://h/x", **camera)
        self.metrics = Metrics()
        self.inbox = Inbox(BatchConfig())
        self.offered = list[Clips | StreamBreak | None]()
        self.ring = ClipRing(4, height=8, width=8, frames=4)
        self.analysis = Analysis(
            BatchConfig(),
            preprocessor=lambda crops: torch.zeros(len(crops), 1, 8, 8, 3, dtype=torch.uint8),  # type: ignore[arg-type]
            ring=self.ring,
            inbox=self.inbox,
            hop=2,
            metrics=self.metrics,
            cameras=lambda camera_id: camera_config,
            gather=lambda ring, windows: torch.zeros(len(windows)),
            offer=self.offered.append,
            is_behind=lambda extra: False,
        )

    def put(self, frames: int, picture_HWC: Any = PICTURE) -> None:
        for number in range(frames):
            self.inbox.put(SampledFrame("c", picture_HWC, number / 15, 0.0, 0.0), threading.Event())

    def finish(self) -> list[tuple[str | None, float]]:
        """Region and time of the clips."""
        self.analysis.run(lambda: True, lambda: False)
        clips = [each for each in self.offered if isinstance(each, Clips)]
        return [
            (window.view.region, window.pts_end_seconds)
            for each in clips
            for window in each.windows
        ]


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
    cut_HWC = _crop(strip_HWC, RegionConfig(id="r"))
    assert max(cut_HWC.shape) <= 8 * min(cut_HWC.shape[:2])
    preprocess = Preprocessor(PreprocessConfig(short_side=64, height=64, width=64), max_batch=1)
    whole = preprocess([strip_HWC[None]]).clone()
    difference = (preprocess([cut_HWC[None]]).int() - whole.int()).abs()
    # a shift of a fraction of a pixel, from another rounding of the size
    assert difference.float().mean() < 1


def test_a_restarted_camera_gets_a_slot_of_its_own() -> None:
    rig = Rig()
    rig.put(2)
    rig.inbox.put(StreamBreak("c", "changed"), threading.Event())
    rig.put(13)
    assert [round(seconds * 15) for _, seconds in rig.finish()] == [3, 5, 7, 9, 11]
    assert rig.ring.free == 3
