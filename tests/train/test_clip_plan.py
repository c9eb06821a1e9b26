"""Clip plans: what they depend on, mirroring, and evaluation views."""

import dataclasses
from pathlib import Path

import pytest
import torch

from configs import DataError
from tests.train.runs import SMALL_FRAMES
from train.config import TrainConfig
from train.data.clip_plan import EvaluationViews, TrainingClipPlan
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry, read_manifest
from train.data.readers import InProcessReader
from train.evaluation.clip_accuracy import parse_views
from train.synthetic import LABELS


def test_a_plan_depends_on_seed_and_epoch_only(config: TrainConfig) -> None:
    entries = read_manifest(config.data.train).entries
    plan = TrainingClipPlan(entries, config.data, 1)
    assert plan.epoch(0) == TrainingClipPlan(entries, config.data, 1).epoch(0)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != TrainingClipPlan(entries, config.data, 2).epoch(0)
    assert sorted(clip.entry.path for clip in plan.epoch(3)) == sorted(
        entry.path for entry in entries
    )


def test_mirroring_swaps_the_labels_that_it_changes(config: TrainConfig) -> None:
    plan = TrainingClipPlan(read_manifest(config.data.train).entries, config.data, 0)
    seen = set()
    for clip in (clip for epoch in range(12) for clip in plan.epoch(epoch)):
        expected = clip.entry.label
        if clip.view.mirror and expected.startswith("walk"):
            expected = {"walk_left": "walk_right", "walk_right": "walk_left"}[expected]
            seen.add(expected)
        assert LABELS[clip.label] == expected
    assert seen == {"walk_left", "walk_right"}


def test_mirrored_clips_have_mirrored_frames(config: TrainConfig, scenes: Path) -> None:
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    entry = read_manifest(config.data.train).entries[5]
    plan = TrainingClipPlan([entry], config.data, 0).epoch(0)[0]
    pair = [
        dataclasses.replace(plan, view=dataclasses.replace(plan.view, mirror=flag, crop_x=0.5))
        for flag in (False, True)
    ]
    batch = next(batches(pair, 2, reader=InProcessReader(store), preprocess=SMALL_FRAMES))
    assert torch.equal(batch.clips_BTHWC[0], batch.clips_BTHWC[1].flip(2))


def test_views_are_spread_evenly() -> None:
    assert parse_views("10x3") == EvaluationViews(10, 3)
    entries = [ManifestEntry(Path("a.mp4"), "x")]
    plan = EvaluationViews(3, 3).clip_plan(entries, ["x"])
    assert [(clip.start, clip.view.crop_x) for clip in plan] == [
        (s, c) for s in (0.0, 0.5, 1.0) for c in (0.0, 0.5, 1.0)
    ]
    for bad in ("10", "0x3", "x", "axb", "1x-1"):
        with pytest.raises(DataError, match="--views takes"):
            parse_views(bad)


def test_speeds_lie_in_their_range_and_leave_the_other_choices_alone(config: TrainConfig) -> None:
    entries = read_manifest(config.data.train).entries
    data = config.data.model_copy(update={"speed_min": 0.5, "speed_max": 2.0})
    clips = [
        clip for epoch in range(20) for clip in TrainingClipPlan(entries, data, 3).epoch(epoch)
    ]
    speeds = sorted(clip.speed for clip in clips)
    assert 0.5 <= speeds[0] < 0.52
    assert 1.9 < speeds[-1] <= 2.0
    assert 0.9 < speeds[len(speeds) // 2] < 1.1  # as often slower as faster
    plain = TrainingClipPlan(entries, config.data, 3).epoch(0)
    assert {clip.speed for clip in plain} == {1.0}
    assert [clip.entry for clip in plain] == [clip.entry for clip in clips[: len(entries)]]
