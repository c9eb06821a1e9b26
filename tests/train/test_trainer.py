"""Loader, evaluation and the loop."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

from configs import CheckpointError, DataError, MediaError, example_path, load_config
from model import ActionNetwork, ModelConfig, load_model
from model.media.preprocess import PreprocessConfig, View
from tests import ROOT
from train.__main__ import main
from train.config import DataConfig, OptimiserConfig, TrainConfig
from train.data.clip_plan import EvaluationViews, PlannedClip, TrainingPlan
from train.data.clip_store import ClipStore
from train.data.loader import Quarantine, batches, readable_entries
from train.data.manifest import ManifestEntry, read_manifest
from train.data.readers import InProcessReader
from train.engine.step import learning_rate_at
from train.engine.trainer import StoppedError, train
from train.evaluation.clip_accuracy import Comparison, Scores, parse_views
from train.synthetic import LABELS

PICTURE = PreprocessConfig(short_side=48, height=48, width=80)


@pytest.fixture
def config(scenes: Path, tmp_path: Path) -> TrainConfig:
    manifest = scenes / "clips/manifest.csv"
    return TrainConfig(
        name="test",
        out=tmp_path / "run",
        precision="float32",
        device="cpu",
        model=ModelConfig(depth=18, num_classes=len(LABELS), width=8),
        preprocess=PICTURE,
        data=DataConfig(
            train=manifest,
            validation=manifest,
            labels=LABELS,
            background="background",
            cache=tmp_path / "cache",
            short_side_min=48,
            short_side_max=56,
            flip_labels={"walk_left": "walk_right", "walk_right": "walk_left"},
        ),
        optimiser=OptimiserConfig(epochs=2, batch=4, learning_rate=0.02),
    )


def test_a_plan_depends_on_seed_and_epoch_only(config: TrainConfig) -> None:
    entries = read_manifest(config.data.train).entries
    plan = TrainingPlan(entries, config.data, 1)
    assert plan.epoch(0) == TrainingPlan(entries, config.data, 1).epoch(0)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != TrainingPlan(entries, config.data, 2).epoch(0)
    assert sorted(clip.entry.path for clip in plan.epoch(3)) == sorted(
        entry.path for entry in entries
    )


def test_a_mirror_swaps_the_labels_it_changes(config: TrainConfig) -> None:
    plan = TrainingPlan(read_manifest(config.data.train).entries, config.data, 0)
    seen = set()
    for clip in (clip for epoch in range(12) for clip in plan.epoch(epoch)):
        expected = clip.entry.label
        if clip.view.mirror and expected.startswith("walk"):
            expected = {"walk_left": "walk_right", "walk_right": "walk_left"}[expected]
            seen.add(expected)
        assert LABELS[clip.label] == expected
    assert seen == {"walk_left", "walk_right"}


def test_mirrored_clips_are_mirrored_pictures(config: TrainConfig, scenes: Path) -> None:
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    entry = read_manifest(config.data.train).entries[5]
    import dataclasses

    plan = TrainingPlan([entry], config.data, 0).epoch(0)[0]
    pair = [
        dataclasses.replace(plan, view=dataclasses.replace(plan.view, mirror=flag, crop_x=0.5))
        for flag in (False, True)
    ]
    batch = next(batches(pair, 2, reader=InProcessReader(store), preprocess=PICTURE))
    assert torch.equal(batch.clips_BTHWC[0], batch.clips_BTHWC[1].flip(2))


def test_the_store_keeps_what_it_decoded_and_survives_a_cut_file(
    scenes: Path, tmp_path: Path
) -> None:
    entry = read_manifest(scenes / "clips/manifest.csv").entries[0]
    fresh = ClipStore(fps=15, frames=32, short_side=56, cache=None)(entry)
    cached = ClipStore(fps=15, frames=32, short_side=56, cache=tmp_path)
    np.testing.assert_array_equal(cached(entry), fresh)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(cached(entry), fresh)
    assert min(fresh.shape[1:3]) == 56


def test_short_videos_repeat_their_last_frame(scenes: Path) -> None:
    path = read_manifest(scenes / "clips/manifest.csv").entries[0].path
    frames = ClipStore(fps=15, frames=32, short_side=None, cache=None)(
        ManifestEntry(path, "x", 0.0, 0.5)
    )
    assert len(frames) == 32
    assert np.array_equal(frames[-1], frames[20])
    assert not np.array_equal(frames[0], frames[-1])


def test_unreadable_videos_are_left_out_up_to_a_share(
    config: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    good = sorted((scenes / "clips").glob("*/0000.mp4"))[:3]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "m.csv").write_text(
        "".join(f"{path},fall\n" for path in [*good, tmp_path / "bad.mp4"])
    )
    manifest = read_manifest(tmp_path / "m.csv")
    store = ClipStore(fps=15, frames=32, short_side=48, cache=None)
    lenient = config.data.model_copy(update={"max_bad_share": 0.25})
    assert [entry.path for entry in readable_entries(manifest, lenient, store)] == good
    with pytest.raises(DataError, match=r"1 of 4 videos .* unreadable .*bad\.mp4"):
        readable_entries(manifest, config.data, store)


@pytest.mark.slow
def test_a_resumed_run_gives_the_losses_of_one_that_was_not(
    config: TrainConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    train(config, quiet=True)
    whole = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    parts = config.model_copy(update={"out": tmp_path / "parts"})
    first = parts.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "milestones": (0.8, 1.6)})
        }
    )
    train(first, quiet=True)
    train(parts, resume=True, quiet=True)
    resumed = [json.loads(line) for line in (parts.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in resumed] == [line["loss"] for line in whole]
    one = load_model(config.out / "model.safetensors")
    other = load_model(parts.out / "model.safetensors")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.slow
def test_a_video_that_goes_bad_on_the_way_is_replaced_by_one_of_its_label(
    config: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    videos = [
        tmp_path / f"{label}-{number}.mp4" for label in ("fall", "wave") for number in range(3)
    ]
    source = next((scenes / "clips").glob("*/0000.mp4")).read_bytes()
    for path in videos:
        path.write_bytes(source)
    entries = [ManifestEntry(path, path.name.partition("-")[0]) for path in videos]
    planned = [
        PlannedClip(entry, 0.5, View(48), ("fall", "wave").index(entry.label)) for entry in entries
    ]
    for path in (videos[0], videos[4]):
        path.write_bytes(b"no longer a video")
    options = {
        "reader": InProcessReader(ClipStore(fps=15, frames=32, short_side=None, cache=None)),
        "preprocess": PICTURE,
    }
    quarantine = Quarantine(tmp_path / "quarantine.csv", most=2)
    (batch,) = batches(planned, 6, **options, quarantine=quarantine)  # type: ignore[arg-type]
    assert [item.entry.path.name for item in batch.planned] == [
        "fall-1.mp4",
        "fall-1.mp4",
        "fall-2.mp4",
        "wave-0.mp4",
        "wave-2.mp4",
        "wave-2.mp4",
    ]
    assert batch.labels_B.tolist() == [0, 0, 0, 1, 1, 1]
    again = Quarantine(tmp_path / "quarantine.csv", most=2)
    assert [entry in again for entry in entries] == [True, False, False, False, True, False]
    videos[1].write_bytes(b"")
    with pytest.raises(DataError, match=r"3 videos went bad during the run .*fall-1\.mp4"):
        list(batches(planned, 6, **options, quarantine=again))  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"fall-0\.mp4"):
        list(batches(planned, 6, **options))  # type: ignore[arg-type]


def steps_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]


class StopAt(threading.Event):
    """Set once it has been asked more often than this; the loop asks after every step."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.slow
def test_a_run_stopped_at_any_step_goes_on_bit_for_bit(config: TrainConfig, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(config, quiet=True)
    parts = config.model_copy(update={"out": tmp_path / "parts"})
    for number, asked in enumerate((0, 3, 0)):  # after 1, 5 and 6 of 8 steps
        with pytest.raises(StoppedError, match="--resume"):
            train(parts, resume=number > 0, quiet=True, stop=StopAt(asked))
    train(parts, resume=True, quiet=True)
    assert steps_of(parts.out) == steps_of(config.out)
    assert len(steps_of(config.out)) == 8
    whole, resumed = (
        (run.out / "metrics.jsonl").read_text().splitlines() for run in (config, parts)
    )
    for one, other in zip(whole, resumed, strict=True):
        for name in ("epoch", "loss", "top1", "validation"):
            assert json.loads(one)[name] == json.loads(other)[name]
    for name in ("model.safetensors", "best.safetensors"):
        states = [load_model(run.out / name).state_dict() for run in (config, parts)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(
    config: TrainConfig, tmp_path: Path
) -> None:
    """SIGKILL in a process of its own, twice, with a state saved after every step; then SIGTERM,
    which saves and says so.
    """
    base = config.model_copy(update={"checkpoint_minutes": 0.0})
    file = tmp_path / "config.yaml"

    def start(out: Path, *options: str) -> subprocess.Popen[str]:
        file.write_text(
            yaml.safe_dump(json.loads(base.model_copy(update={"out": out}).model_dump_json()))
        )
        command = [sys.executable, "-m", "train", "--config", str(file), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )

    whole = start(tmp_path / "whole")
    text, _ = whole.communicate(timeout=200)
    assert whole.returncode == 0, text
    killed = tmp_path / "killed"
    for number, (lines, signal_number) in enumerate(
        ((1, signal.SIGKILL), (4, signal.SIGKILL), (5, signal.SIGTERM))
    ):
        process = start(killed, *(["--resume"] if number else []))
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            if (killed / "last.safetensors").is_file() and len(
                (killed / "steps.jsonl").read_text().splitlines()
            ) >= lines:
                break
            time.sleep(0.01)
        process.send_signal(signal_number)
        text, _ = process.communicate(timeout=100)
        assert process.returncode == (-9 if signal_number == signal.SIGKILL else 143), text
    assert "`--resume` goes on there" in text
    process = start(killed, "--resume")
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert steps_of(killed) == steps_of(tmp_path / "whole")


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics of batch norm held still, which parts would otherwise see a part each."""
    monkeypatch.setattr(
        ActionNetwork, "train", lambda self, mode=True: torch.nn.Module.train(self, False)
    )
    found = []
    for parts in (1, 2, 4):
        optimiser = config.optimiser.model_copy(
            update={"accumulate": parts, "epochs": 1, "learning_rate": 1e-3}
        )
        run = config.model_copy(update={"out": config.out / str(parts), "optimiser": optimiser})
        train(run, quiet=True)
        found.append([line["loss"] for line in steps_of(run.out)])
    assert found[0][0] - found[0][1] > 0.01  # what a wrong gradient would change
    for losses in found[1:]:
        assert losses == pytest.approx(found[0], rel=1e-4)


@pytest.mark.slow
def test_weights_are_kept_as_asked(config: TrainConfig) -> None:
    train(config.model_copy(update={"keep_every": 1, "activation_checkpointing": True}), quiet=True)
    assert {"config.json", "environment.json", "log.txt", "metrics.jsonl", "steps.jsonl"} <= {
        path.name for path in config.out.iterdir()
    }
    assert "16 training and 16 validation videos" in (config.out / "log.txt").read_text()
    assert (
        json.loads((config.out / "environment.json").read_text())["packages"]["torch"]
        == torch.__version__
    )
    names = {path.name for path in config.out.glob("*.safetensors")}
    assert names == {
        "last.safetensors",
        "model.safetensors",
        "best.safetensors",
        "epoch-0001.safetensors",
        "epoch-0002.safetensors",
    }


@pytest.mark.slow
def test_training_learns_a_few_clips_by_heart(
    config: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    lines = [
        f"{scenes}/clips/{label}/0000.mp4,{label}\n"
        for label in ("fall", "walk_left", "background")
    ]
    (tmp_path / "m.csv").write_text("".join(lines * 2))
    data = config.data.model_copy(
        update={"train": tmp_path / "m.csv", "validation": tmp_path / "m.csv", "flip": False}
    )
    model = config.model.model_copy(update={"dropout": 0.0})
    optimiser = OptimiserConfig(epochs=12, batch=6, learning_rate=0.05, milestones=())
    train(
        config.model_copy(update={"data": data, "model": model, "optimiser": optimiser}), quiet=True
    )
    losses = [
        json.loads(line)["loss"] for line in (config.out / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_a_part_of_a_video_is_what_the_whole_has_there(scenes: Path) -> None:
    import numpy as np

    from model.media.video import sampled_frames

    path = scenes / "recordings/camera-1.mp4"
    # so fine a grid that every frame appears
    part = sampled_frames(path, 1000.0, start_seconds=7.3, end_seconds=10.1)
    whole = {frame.tobytes() for frame in sampled_frames(path, 1000.0)}
    assert all(frame.tobytes() in whole for frame in part)
    lasting = len(sampled_frames(path, 15.0, start_seconds=7.3, end_seconds=10.1)) / 15
    assert lasting == pytest.approx(2.8, abs=0.2)
    assert len(np.unique([hash(frame.tobytes()) for frame in part])) > 20


@pytest.mark.slow
def test_a_run_goes_on_from_whole_weights_and_only_from_its_own(
    config: TrainConfig, tmp_path: Path
) -> None:
    one = config.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
        }
    )
    train(one, quiet=True)
    weights = config.out / "model.safetensors"
    also = (config.data.train,)
    data = config.data.model_copy(update={"also": also})
    second = one.model_copy(
        update={
            "out": tmp_path / "second",
            "weights_from": weights,
            "data": data,
            "weights_format": "bfloat16",
        }
    )
    train(second, quiet=True)
    started = load_model(tmp_path / "second/model.safetensors")
    source = load_model(weights)
    torch.testing.assert_close(
        started.classifier.weight, source.classifier.weight, atol=1e-3, rtol=1e-2
    )
    labels = (*LABELS, "another")
    wider = second.model_copy(
        update={
            "out": tmp_path / "wider",
            "model": one.model.model_copy(update={"num_classes": len(labels)}),
            "data": data.model_copy(update={"labels": labels}),
        }
    )
    train(wider, quiet=True)
    other = load_model(tmp_path / "wider/model.safetensors")
    assert other.classifier.weight.shape[0] == len(labels)
    torch.testing.assert_close(
        other.backbone.stem.conv.weight, source.backbone.stem.conv.weight, atol=1e-3, rtol=1e-2
    )
    narrow = second.model_copy(update={"model": one.model.model_copy(update={"cidc": None})})
    with pytest.raises(CheckpointError, match="is of another network"):
        train(narrow, quiet=True)


@pytest.mark.slow
def test_a_run_can_start_from_a_trained_backbone_and_only_from_its_own(
    config: TrainConfig, tmp_path: Path
) -> None:
    one = config.model_copy(
        update={
            "optimiser": config.optimiser.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
        }
    )
    pooled = one.model_copy(
        update={"out": tmp_path / "pooled", "model": one.model.model_copy(update={"cidc": None})}
    )
    train(pooled, quiet=True)
    weights = tmp_path / "pooled/model.safetensors"
    train(one.model_copy(update={"backbone_from": weights}), quiet=True)
    started = load_model(config.out / "model.safetensors")
    source = load_model(weights)
    torch.testing.assert_close(
        started.backbone.stem.conv.weight, source.backbone.stem.conv.weight, atol=1e-6, rtol=0
    )
    for field, value in (("width", 16), ("entry", "sampled"), ("backbone", "tsm")):
        other = one.model_copy(
            update={"backbone_from": weights, "model": one.model.model_copy(update={field: value})}
        )
        with pytest.raises(CheckpointError, match=f"has another backbone: .*model.{field} is"):
            train(other, quiet=True)
    grey = one.model_copy(
        update={
            "backbone_from": weights,
            "preprocess": PICTURE.model_copy(update={"mean_rgb": (114.75,) * 3}),
        }
    )
    with pytest.raises(CheckpointError, match=r"preprocess\.mean_rgb"):
        train(grey, quiet=True)


def test_confusions_and_comparisons_by_hand() -> None:
    labels = ("a", "b", "c")
    truth = torch.tensor([0, 0, 1, 1, 2])
    first = Scores(
        torch.tensor(
            [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
        ),
        truth,
        labels,
    )
    second = Scores(torch.eye(3)[truth], truth, labels)
    assert first.confusion().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert first.most_confused() == [("a", "b", 0.5)]
    comparison = Comparison.of(first, second)
    assert set(comparison.classes[:2]) == {("a", 0.5, 1.0), ("b", 0.5, 1.0)}
    assert comparison.classes[2] == ("c", 1.0, 1.0)
    assert comparison.pairs == (("a", "b", 0.5, 1.0),)
    assert comparison.summary()["pairs"] == {"a/b": [0.5, 1.0]}
    with pytest.raises(DataError, match="different videos"):
        Comparison.of(first, Scores(second.probabilities_NK, truth.flip(0), labels))
    with pytest.raises(DataError, match="different labels"):
        Comparison.of(first, Scores(second.probabilities_NK, truth, ("a", "b", "d")))


def test_the_rate_follows_the_paper() -> None:
    paper = OptimiserConfig()
    assert [round(learning_rate_at(epoch, paper), 8) for epoch in (0, 39.9, 40, 79.9, 80, 99)] == [
        0.01,
        0.01,
        0.001,
        0.001,
        0.0001,
        0.0001,
    ]
    warm = OptimiserConfig(warmup_epochs=2.0)
    assert learning_rate_at(1.0, warm) == pytest.approx(0.005)
    assert learning_rate_at(0, OptimiserConfig(batch=8, base_batch=32)) == pytest.approx(0.0025)


def test_scores_by_hand() -> None:
    labels = ("background", "fall", "get_up", "enter")
    probabilities = torch.tensor(
        [[0.6, 0.3, 0.1, 0.0], [0.5, 0.1, 0.4, 0.0], [0.1, 0.2, 0.6, 0.1], [0.9, 0.05, 0.03, 0.02]]
    )
    scores = Scores(probabilities, torch.tensor([1, 1, 2, 0]), labels, "background")
    assert scores.top1() == 0.5
    assert scores.actions_top1() == pytest.approx(2 / 3)
    assert scores.within_pairs() == {"fall/get_up": pytest.approx(2 / 3)}
    assert scores.per_class() == {"background": 1.0, "fall": 0.0, "get_up": 1.0}


def test_pairs_without_videos_are_left_out() -> None:
    labels = ("fall", "get_up", "enter", "leave")
    scores = Scores(torch.eye(4)[:2], torch.tensor([0, 0]), labels)
    assert scores.within_pairs() == {"fall/get_up": 0.5}
    json.loads(json.dumps(scores.summary(), allow_nan=False))


def test_views_are_spread_evenly() -> None:
    assert parse_views("10x3") == EvaluationViews(10, 3)
    entries = read_manifest_entries()
    plan = EvaluationViews(3, 3).plan(entries, ["x"])
    assert [(clip.start, clip.view.crop_x) for clip in plan] == [
        (s, c) for s in (0.0, 0.5, 1.0) for c in (0.0, 0.5, 1.0)
    ]
    for bad in ("10", "0x3", "x", "axb", "1x-1"):
        with pytest.raises(DataError, match="--views takes"):
            parse_views(bad)


def read_manifest_entries() -> list:  # type: ignore[type-arg]
    return [ManifestEntry(Path("a.mp4"), "x")]


@pytest.mark.slow
def test_the_command_line_trains_and_evaluates(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cli"
    manifest = config.data.train
    settings = [
        f"out={out}",
        f"data.train={manifest}",
        f"data.validation={manifest}",
        f"data.cache={tmp_path}/c",
        "optimiser.epochs=1",
        "model.width=8",
        "backbone_from=null",
        "precision=float32",
    ]
    overrides = [part for setting in settings for part in ("--set", setting)]
    path = str(example_path("scenes-cidc.yaml"))
    assert main(["--config", path, *overrides]) == 0
    checkpoint = out / "model.safetensors"
    json_path = tmp_path / "figures.json"
    assert (
        main(
            [
                "evaluate",
                "--config",
                path,
                *overrides,
                "--checkpoint",
                str(checkpoint),
                "--views",
                "2x1",
                "--json",
                str(json_path),
            ]
        )
        == 0
    )
    figures = json.loads(json_path.read_text())
    assert figures["videos"] == 16
    assert 0 <= figures["top1"] <= 1
    assert math.isfinite(figures["within_pairs_mean"])
    assert np.array(figures["confusion"]).sum() == 16
    evaluate = [
        "evaluate",
        "--config",
        path,
        *overrides,
        "--checkpoint",
        str(checkpoint),
        "--json",
        str(json_path),
    ]
    assert main([*evaluate, "--versus", str(checkpoint)]) == 0
    assert "Top-1 by class" in capsys.readouterr().out
    versus = json.loads(json_path.read_text())["versus"]
    assert all(one == other for one, other in versus["classes"].values())
    lines = manifest.read_text().splitlines()
    (tmp_path / "bad.mp4").write_bytes(b"")
    partly = tmp_path / "partly.csv"
    partly.write_text(
        "\n".join(
            [f"{manifest.parent}/{line}" for line in lines[1:]] + [f"{tmp_path}/bad.mp4,fall", ""]
        )
    )
    evaluate += ["--manifest", str(partly), "--set", "data.max_bad_share=0.5"]
    capsys.readouterr()
    assert main(evaluate) == 2
    assert "1 of 17 videos" in capsys.readouterr().err
    assert main([*evaluate, "--allow-missing"]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                "--config",
                path,
                *overrides,
                "--checkpoint",
                str(tmp_path / "no.safetensors"),
            ]
        )
        == 2
    )
    assert capsys.readouterr().err.startswith("error: weights file not found")
    assert main(["--config", path, *overrides, "--set", "model.width=9.5"]) == 2
    capsys.readouterr()
    assert main(["--config", path, *overrides, "--set", f"out={tmp_path}/dry", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    facts = json.loads(printed[printed.index("{") :])
    assert (facts["training_videos"], facts["clips"]) == (16, [16, 32, 80, 144, 3])
    assert facts["first_loss"] == pytest.approx(math.log(13), rel=0.3)
    assert not (tmp_path / "dry").exists()
    assert main([]) == 2


def test_files_that_ship_load_as_training_configurations() -> None:
    for name in ("scenes-cidc.yaml", "scenes-cidc-recordings.yaml", "scenes-average-pooling.yaml"):
        loaded = load_config(example_path(name), TrainConfig)
        assert loaded.data.labels == LABELS


@pytest.mark.slow
def test_two_hundred_corrupt_videos_of_a_thousand(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is exact, training leaves those out without looking again, and a file that is
    mended counts again.
    """
    good = tmp_path / "source.mp4"
    with av.open(str(good), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width = 48
        stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(34):
            picture = np.full((32, 48, 3), 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    whole = good.read_bytes()
    lines = []
    breakages = (b"", b"no video", whole[: len(whole) // 2], whole[:-1500] + bytes(1500))
    for number in range(1000):
        path = tmp_path / f"{number:04d}.mp4"
        path.write_bytes(breakages[number // 5 % 4] if number % 5 == 0 else whole)
        lines.append(f"{path.name},{'up' if number % 2 else 'down'}\n")
    manifest = tmp_path / "m.csv"
    manifest.write_text("".join(lines))
    bad = {str(tmp_path / f"{number:04d}.mp4") for number in range(0, 1000, 5)}
    assert main(["validate", str(manifest)]) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "files 1000, good 800, bad 200"
    with (tmp_path / "m.checked.csv").open(newline="") as file:
        report = list(csv.DictReader(file))
    assert {row["path"] for row in report if row["problem"]} == bad
    assert {int(row["frames"]) for row in report if not row["problem"]} == {34}
    data = DataConfig(
        train=manifest,
        validation=manifest,
        labels=("down", "up"),
        short_side_min=32,
        short_side_max=36,
        max_bad_share=0.2,
        workers=0,
    )
    run = TrainConfig(
        name="t",
        out=tmp_path / "run",
        device="cpu",
        model=ModelConfig(depth=18, num_classes=2, width=8, cidc=None),
        preprocess=PreprocessConfig(short_side=32, height=32, width=32),
        data=data,
        optimiser=OptimiserConfig(epochs=1, batch=50),
    )
    train(run, quiet=True)
    assert len(steps_of(run.out)) == 16
    log = (run.out / "log.txt").read_text()
    assert f"200 of 1000 videos of {manifest} left out" in log
    # as training and as validation videos
    assert all(log.count(f"left out: {path}: ") == 2 for path in bad)
    (tmp_path / "0000.mp4").write_bytes(whole)
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    assert len(readable_entries(read_manifest(manifest), data, store)) == 801
    with pytest.raises(DataError, match="199 of 1000 videos"):
        readable_entries(
            read_manifest(manifest), data.model_copy(update={"max_bad_share": 0.1}), store
        )
    (tmp_path / "m.checked.csv").write_text("path,frames\nx,1\n")
    with pytest.raises(DataError, match=r"m\.checked\.csv is not a report"):
        readable_entries(read_manifest(manifest), data, store)


@pytest.mark.slow
def test_figures_for_tensorboard_and_pictures(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config, quiet=True)
    train(
        config.model_copy(update={"optimiser": config.optimiser.model_copy(update={"epochs": 3})}),
        resume=True,
        quiet=True,
    )
    board = EventAccumulator(str(config.out / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == list(range(1, 13))
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(
        [step["loss"] for step in steps_of(config.out)], rel=1e-5
    )
    assert [event.step for event in board.Scalars("validation/top1")] == [4, 8, 12]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    weights = str(config.out / "model.safetensors")
    arguments = [
        "evaluate",
        "--config",
        str(path),
        "--checkpoint",
        weights,
        "--versus",
        str(config.out / "best.safetensors"),
    ]
    assert main([*arguments, "--plots", str(tmp_path / "plots")]) == 0
    for name in ("confusion.png", "versus.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
