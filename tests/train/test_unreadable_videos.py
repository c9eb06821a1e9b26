"""Videos that do not decode: before a run begins, and in the middle of it."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from configs import DataError, MediaError
from model.media.preprocess import CropSpec
from tests.train.runs import SMALL_FRAMES, steps_of, tiny_run
from train.__main__ import main
from train.config import TrainConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.readable import readable_entries
from train.data.readers import InProcessReader
from train.engine.trainer import train


def test_unreadable_videos_are_left_out_up_to_a_fraction(
    config: TrainConfig, scenes: Path, tmp_path: Path
) -> None:
    good = sorted((scenes / "clips").glob("*/0000.mp4"))[:3]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "m.csv").write_text(
        "".join(f"{path},fall\n" for path in [*good, tmp_path / "bad.mp4"])
    )
    manifest = read_manifest(tmp_path / "m.csv")
    store = ClipStore(fps=15, frames=32, short_side=48, cache=None)
    lenient = config.data.model_copy(update={"max_bad_fraction": 0.25})
    assert [entry.path for entry in readable_entries(manifest, lenient, store)] == good
    with pytest.raises(DataError, match=r"1 of 4 videos .* unreadable .*bad\.mp4"):
        readable_entries(manifest, config.data, store)


@pytest.mark.slow
def test_a_video_that_becomes_unreadable_is_replaced_by_one_of_its_label(
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
        PlannedClip(entry, 0.5, CropSpec(48), ("fall", "wave").index(entry.label))
        for entry in entries
    ]
    for path in (videos[0], videos[4]):
        path.write_bytes(b"no longer a video")
    options = {
        "reader": InProcessReader(ClipStore(fps=15, frames=32, short_side=None, cache=None)),
        "preprocess": SMALL_FRAMES,
    }
    quarantine = Quarantine(tmp_path / "quarantine.csv", max_videos=2)
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
    again = Quarantine(tmp_path / "quarantine.csv", max_videos=2)
    assert [entry in again for entry in entries] == [True, False, False, False, True, False]
    videos[1].write_bytes(b"")
    with pytest.raises(DataError, match=r"3 videos became unreadable during the run .*fall-1\.mp4"):
        list(batches(planned, 6, **options, quarantine=again))  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"fall-0\.mp4"):
        list(batches(planned, 6, **options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_hundred_corrupt_videos_of_a_thousand(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report names them, training leaves them out, and a repaired file counts again."""
    good = tmp_path / "source.mp4"
    with av.open(str(good), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width = 48
        stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(34):
            frame = np.full((32, 48, 3), 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
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
    run = tiny_run(
        tmp_path / "run",
        train=manifest,
        validation=manifest,
        batch=50,
        labels=("down", "up"),
        max_bad_fraction=0.2,
    )
    data = run.data
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
            read_manifest(manifest), data.model_copy(update={"max_bad_fraction": 0.1}), store
        )
    (tmp_path / "m.checked.csv").write_text("path,frames\nx,1\n")
    with pytest.raises(DataError, match=r"m\.checked\.csv is not a report"):
        readable_entries(read_manifest(manifest), data, store)
