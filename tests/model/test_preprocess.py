"""The graph against PyTorch's own resampling, and the three paths through it against each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from configs import ShapeError
from model.media import dali_graph
from model.media.conversion import rgb_frame
from model.media.preprocess import (
    MEAN_RGB,
    STD_RGB,
    CropSpec,
    PreprocessConfig,
    Preprocessor,
    normalise_clips,
)
from model.media.video import decode_frames
from stream.analysis.ring import ClipRing
from stream.ingest.config import ClipConfig
from stream.ingest.sampler import Sampler
from stream.types import DecodedFrame, SampledFrame
from train.data.clip_plan import EvaluationViews, PlannedClip
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.readers import InProcessReader

CONFIG = PreprocessConfig(short_side=48, height=48, width=80)


def smooth_frame(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 6, 8)))
    enlarged = functional.interpolate(
        coarse, (height, width), mode="bicubic", align_corners=False
    ).clamp(0, 255)
    return enlarged[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def by_torch(frame_HWC: np.ndarray, short_side: int) -> np.ndarray:
    """Anti-aliased bilinear resize, then a centre crop of 48 x 80 or black borders, in PyTorch."""
    height, width = frame_HWC.shape[:2]
    scale = short_side / min(height, width)
    size = (round(height * scale), round(width * scale))
    x = torch.from_numpy(frame_HWC).permute(2, 0, 1)[None].double()
    x = functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)[
        0
    ].permute(1, 2, 0)
    out = torch.zeros(48, 80, 3, dtype=torch.float64)
    top = round((size[0] - 48) / 2)
    left = (size[1] - 80) / 2
    if left >= 0:
        first = int(np.floor(left + 0.5))
        out[:] = x[top : top + 48, first : first + 80]
    else:
        first = int(np.floor(-left))
        out[:, first : first + size[1]] = x[top : top + 48]
    return out.numpy()


@pytest.mark.parametrize(
    ("height", "width"), [(360, 640), (720, 1280), (480, 640), (96, 160), (321, 481)]
)
def test_the_graph_resizes_as_torch_does(height: int, width: int) -> None:
    frame_HWC = smooth_frame(height, width)
    ours = Preprocessor(CONFIG, max_batch=2)([frame_HWC[None]])[0, 0].numpy().astype(float)
    # One pixel of leeway sideways: DALI rounds half-pixel crops its own way.
    errors = [
        np.abs(np.roll(by_torch(frame_HWC, 48), shift, axis=1) - ours)[:, 4:-4].mean()
        for shift in (-1, 0, 1)
    ]
    assert min(errors) < 1.0


def test_crops_are_cut_and_mirrored() -> None:
    frame_HWC = smooth_frame(48, 160)
    graph = Preprocessor(CONFIG, max_batch=3)
    crops = [
        CropSpec(48, crop_x=0.0),
        CropSpec(48, crop_x=1.0),
        CropSpec(48, crop_x=0.0, mirror=True),
    ]
    left, right, mirrored = graph([frame_HWC[None]] * 3, crops).numpy()[:, 0]
    np.testing.assert_array_equal(left, frame_HWC[:, :80])
    np.testing.assert_array_equal(right, frame_HWC[:, 80:])
    np.testing.assert_array_equal(mirrored, frame_HWC[:, :80][:, ::-1])


def test_normalising_is_mean_and_deviation_and_moves_nothing() -> None:
    clips = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8)
    normal = normalise_clips(clips, CONFIG)
    expected = (clips.double().numpy() - np.array(MEAN_RGB)) / np.array(STD_RGB)
    np.testing.assert_allclose(normal.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-5)
    assert normal.is_contiguous(memory_format=torch.channels_last_3d)


def test_weights_may_want_other_channel_statistics() -> None:
    clips = torch.randint(0, 256, (1, 4, 5, 6, 3), dtype=torch.uint8)
    config = CONFIG.model_copy(update={"mean_rgb": (10.0, 20.0, 30.0), "std_rgb": (2.0, 4.0, 8.0)})
    expected = (clips.double().numpy() - np.array((10, 20, 30))) / np.array((2, 4, 8))
    np.testing.assert_allclose(
        normalise_clips(clips, config).numpy(), expected.transpose(0, 4, 1, 2, 3), atol=1e-4
    )


def test_the_statistics_are_copied_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = torch.randint(0, 256, (1, 4, 5, 6, 3), dtype=torch.uint8)
    config = CONFIG.model_copy(update={"mean_rgb": (11.0, 21.0, 31.0)})
    with torch.inference_mode():
        first = normalise_clips(clips, config)
    monkeypatch.delattr(torch, "tensor")
    again = normalise_clips(clips, config)
    assert torch.equal(first, again)
    # What was first used for inference can be trained with.
    weight = torch.ones(1, requires_grad=True)
    (again * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [np.zeros((1, 4, 4, 3))],
        [np.zeros((1, 4, 4, 1), np.uint8)],
        [np.zeros((1, 0, 4, 3), np.uint8)],
        [np.zeros((1, 4, 4, 3), np.uint8)] * 3,
    ],
)
def test_bad_batches_are_named(bad: list[np.ndarray]) -> None:
    with pytest.raises(ShapeError):
        Preprocessor(CONFIG, max_batch=2)(bad)


def live_clip(path: Path) -> torch.Tensor:
    """The last 32 frames of a file as the live pipeline sees them: sampler, graph and ring."""
    ring = ClipRing(1, height=48, width=80)
    slot = ring.acquire()
    graph = Preprocessor(CONFIG, max_batch=1)
    sampler = Sampler("a", ClipConfig(), rgb_frame)
    for frame in decode_frames(path):
        for item in sampler.push(
            DecodedFrame(frame, frame.time, 0.0, 0.0, frame.width, frame.height)
        ):
            assert isinstance(item, SampledFrame)
            ring.push(slot, graph([item.frame_HWC[None]])[0, 0])
    return ring.gather([slot])


def test_training_evaluation_and_live_see_the_same_clip(scenes: Path) -> None:
    for path in sorted((scenes / "clips").glob("*/0000.mp4"))[:4]:
        store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
        entry = ManifestEntry(path, "fall")
        options = {"reader": InProcessReader(store), "preprocess": CONFIG}
        training = next(
            batches([PlannedClip(entry, 1.0, CropSpec(48), 0)], 1, **options)
        ).clips_BTHWC  # type: ignore[arg-type]
        plan = EvaluationViews(clips=3).clip_plan([entry], ["fall"])
        evaluation = next(batches(plan, 3, **options)).clips_BTHWC[2:]  # type: ignore[arg-type]
        live = live_clip(path)
        assert torch.equal(training, live)
        assert torch.equal(evaluation, live)
        assert torch.equal(normalise_clips(training, CONFIG), normalise_clips(live, CONFIG))


def test_frames_of_the_right_size_skip_the_resize_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    clips = [rng.integers(0, 256, (2, 48, 70 + 10 * i, 3), dtype=np.uint8) for i in range(2)]
    crops = [CropSpec(48, 0.2, 0.5, True), CropSpec(0, 0.9, 0.5)]
    short = Preprocessor(CONFIG, max_batch=3)(clips, crops).clone()
    # The long way: a third clip needs resizing, so all three do.
    monkeypatch.delattr(dali_graph, "sized_clip_graph")
    third = rng.integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)
    long = Preprocessor(CONFIG, max_batch=3)([*clips, third], [*crops, CropSpec(0)])
    assert torch.equal(long[:2], short)
    # And the short way was another graph.
    with pytest.raises(AttributeError, match="sized_clip_graph"):
        Preprocessor(CONFIG, max_batch=3)(clips, crops)
