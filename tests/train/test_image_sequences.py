"""Folders of images as videos: in every reader, the cache, the checks and a training run."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from configs import MediaError
from model.media.container import open_file
from model.media.preprocess import CropSpec
from tests.support.images import write_images
from tests.train.runs import SMALL_FRAMES
from train.__main__ import main
from train.config import TrainConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipRequest, ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.readers import EncodedReader, InProcessReader, WorkerReader
from train.data.video_check import recording_hours, validate_manifest
from train.engine.trainer import train
from train.evaluation.recordings import recordings_of


def store(cache: Path | None = None) -> ClipStore:
    return ClipStore(fps=15, frames=32, short_side=None, cache=cache)


def greys(clip: object) -> list[int]:
    assert isinstance(clip, np.ndarray), clip
    return [round(float(frame.mean())) for frame in clip]


def test_the_frame_rate_decides_which_images_make_a_clip(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", list(range(0, 250, 2)), "{}.png")
    for fps, step in ((15.0, 1), (30.0, 2)):
        clip = store().clip(ClipRequest(ManifestEntry(folder, "x", fps=fps), 0.0))
        assert greys(clip) == list(range(0, 64 * step, 2 * step))
    # 25 frames per second unless the manifest says otherwise: position 31 is at 2.067 s.
    assert greys(store().clip(ClipRequest(ManifestEntry(folder, "x"), 0.0)))[-1] == 2 * 52
    part = store()(ManifestEntry(folder, "x", 2.0, 3.0, fps=15.0))
    assert greys(part) == [*range(60, 90, 2), *[88] * 17]  # 15 frames, the last one repeated


@pytest.mark.parametrize("start", [0.0, 0.4, 1.0])
def test_a_clip_has_the_frames_of_the_whole_sequence(tmp_path: Path, start: float) -> None:
    entry = ManifestEntry(write_images(tmp_path / "v", list(range(0, 250, 2))), "x", fps=25.0)
    whole = store()(entry)
    first = round(start * (len(whole) - 32))
    request = ClipRequest(entry, start)
    np.testing.assert_array_equal(store().clip(request), whole[first : first + 32])
    (encoded,) = EncodedReader(store()).read([request])  # DALI decodes files only
    np.testing.assert_array_equal(encoded, whole[first : first + 32])


@pytest.mark.slow
def test_workers_read_sequences(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folders = [write_images(each, list(range(90))) for each in (tmp_path / "v", odd)]
    requests = [ClipRequest(ManifestEntry(folder, "x", fps=12.0), 0.5) for folder in folders]
    requests.append(ClipRequest(ManifestEntry(tmp_path, "x"), 0.5))
    reader = WorkerReader(store(), 1)
    try:
        *clips, bad = reader.read(requests)
    finally:
        reader.close()
    for clip, expected in zip(clips, InProcessReader(store()).read(requests), strict=False):
        assert isinstance(clip, np.ndarray)
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(clip, expected)
    assert isinstance(bad, MediaError)
    assert "no numbered images" in str(bad)


def test_the_cache_sees_changed_images_and_rates(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [50] * 40)
    cached = tmp_path / "cache"
    entry = ManifestEntry(folder, "x", fps=15.0)
    assert set(greys(store(cached)(entry))) == {50}
    assert len(list(cached.iterdir())) == 1
    assert set(greys(store(cached)(entry))) == {50}
    assert len(list(cached.iterdir())) == 1
    store(cached)(ManifestEntry(folder, "x", fps=30.0))
    assert len(list(cached.iterdir())) == 2
    write_images(folder, [90] * 40)
    assert set(greys(store(cached)(entry))) == {90}


def test_broken_images_are_found_and_skipped(tmp_path: Path) -> None:
    good = write_images(tmp_path / "good", [10] * 5)
    cut = write_images(tmp_path / "cut", list(range(0, 200, 4)))
    image = cut / "00006.jpg"
    image.write_bytes(image.read_bytes()[:-30])
    (tmp_path / "empty").mkdir()
    manifest = tmp_path / "m.csv"
    manifest.write_text("good,x,,,12\ncut,x,,,15\nempty,x\n")
    reports = validate_manifest(read_manifest(manifest), quiet=True)
    assert [report.path for report in reports] == [good, cut, tmp_path / "empty"]
    assert [report.frames for report in reports] == [5, 5, 0]
    problems = [report.problem or "" for report in reports]
    assert problems[0] == ""
    assert problems[1].startswith("image 00006.jpg does not decode")
    assert problems[2].startswith("cannot open: the folder has no numbered images")
    clip = greys(store().clip(ClipRequest(ManifestEntry(cut, "x", fps=15.0), 0.0)))
    assert clip[5] in (16, 24)  # a neighbour takes the place of the broken image
    assert clip[6:] == list(range(24, 128, 4))


def test_the_report_covers_a_folder_until_an_image_changes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [10] * 5)
    (tmp_path / "m.csv").write_text("v,x\n")
    assert main(["validate", str(tmp_path / "m.csv")]) == 0
    from train.data.video_check import read_report

    (report,) = read_report(tmp_path / "m.checked.csv").values()
    assert (report.path, report.frames, report.problem) == (folder, 5, None)
    (folder / "00003.jpg").unlink()
    assert read_report(tmp_path / "m.checked.csv") == {}


def test_a_sequence_that_goes_bad_is_replaced(tmp_path: Path) -> None:
    folders = [write_images(tmp_path / name, [60] * 40) for name in ("good", "bad")]
    planned = [PlannedClip(ManifestEntry(folder, "x"), 0.0, CropSpec(48), 0) for folder in folders]
    for image in folders[1].iterdir():
        image.unlink()
    quarantine = Quarantine(tmp_path / "quarantine.csv", max_videos=1)
    (batch,) = batches(
        planned,
        2,
        reader=InProcessReader(store()),
        preprocess=SMALL_FRAMES,
        quarantine=quarantine,
    )
    assert [item.entry.path.name for item in batch.planned] == ["good", "good"]
    assert planned[1].entry in quarantine


def test_the_rate_of_images_does_not_change_a_file(scenes: Path) -> None:
    entry = read_manifest(scenes / "clips/manifest.csv").entries[0]
    clips = [
        store().clip(ClipRequest(ManifestEntry(entry.path, "x", fps=fps), 0.5))
        for fps in (None, 12.0)
    ]
    np.testing.assert_array_equal(*clips)


def test_recordings_may_be_folders_of_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "camera.1", [10] * 36)
    (tmp_path / "truth.csv").write_text("camera.1,fall,1,2,12\n")
    truth = read_manifest(tmp_path / "truth.csv")
    assert recording_hours(truth) == pytest.approx(3 / 3600)
    (recording,) = recordings_of(truth)
    assert recording.stem == folder.stem


def test_the_live_pipeline_refuses_a_folder(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", [10] * 5)
    with pytest.raises(MediaError, match="cannot open: it is a folder, not a file"):
        open_file(folder)


@pytest.mark.slow
def test_training_on_folders_of_images(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, grey in (("dark", 20), ("bright", 220)):
        for number in range(4):
            write_images(tmp_path / f"v/{label} /{number}", [grey] * (34 + number))
    arguments = ["--videos", str(tmp_path / "v"), "--folds", "2", "--out", str(tmp_path / "lists")]
    assert main(["manifest", "folder", *arguments, "--image-fps", "15"]) == 0
    data = {"train": tmp_path / "lists/train.csv", "validation": tmp_path / "lists/validation.csv"}
    fields = config.model_dump() | {
        "model": {**config.model.model_dump(), "num_classes": 2},
        "data": {
            **config.data.model_dump(),
            **data,
            "labels": ("bright", "dark"),
            "background": None,
            "flip_labels": {},
            "cache": None,
            "workers": 1,
        },
    }
    run = TrainConfig.model_validate(fields)
    train(run)
    metrics = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2
    yaml = tmp_path / "run.yaml"
    yaml.write_text(run.model_dump_json())
    capsys.readouterr()
    evaluate = ["evaluate", "--config", str(yaml), "--json", str(tmp_path / "figures.json")]
    assert main([*evaluate, "--checkpoint", str(run.out / "model.safetensors")]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["videos"] == sum(
        read_manifest(data["validation"]).counts.values()
    )
