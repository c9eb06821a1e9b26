"""Paths and files that no decoder likes: each is named and left out, and the run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from configs import DataError, MediaError, TrainingError
from model import load_model
from model.activation import analyse_video
from tests.train.runs import tiny_run
from train.config import DataConfig
from train.data.clip_store import ClipRequest, ClipStore
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.readable import readable_entries
from train.data.readers import EncodedReader, InProcessReader
from train.data.video_check import read_report, recording_hours, validate_manifest, write_report
from train.engine.run import TrainingRun
from train.engine.trainer import train as train_network
from train.evaluation.recordings import recording_timelines


def write_video(
    path: Path,
    size: tuple[int, int] = (48, 32),
    *,
    frames: int = 34,
    pixel_format: str = "yuv420p",
    matrix: int = 2,
) -> None:
    codec = "libx264" if pixel_format == "yuv420p" else "rawvideo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.colorspace = matrix
        for number in range(frames):
            frame = av.VideoFrame(*size, pixel_format)
            for plane in frame.planes:
                plane.update(bytes([100 + number]) * plane.buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def make_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_file_without_times(path: Path) -> None:
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(34):
            container.mux(stream.encode(av.VideoFrame(48, 32, "yuv420p")))
        container.mux(stream.encode())


HOSTILE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "empty": ("a.mp4", Path.touch, "cannot open"),
    "folder": ("a.mp4", Path.mkdir, "the folder has no numbered images"),
    "pipe": ("a.mp4", make_pipe, "it is a pipe"),
    "device": ("a.mp4", make_link_to_a_device, "it is a pipe, socket or device"),
    "loop": ("a.mp4", make_link_to_itself, "Too many levels of symbolic links"),
    "missing": ("a.mp4", lambda path: None, "No such file"),
    "long name": ("a" * 300 + ".mp4", lambda path: None, "File name too long"),
    "no conversion": ("a.nut", lambda path: write_video(path, pixel_format="rgb4"), "rgb4"),
    "strip": ("a.avi", lambda path: write_video(path, (400, 2), pixel_format="bgr24"), "400x2"),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_file_is_named_by_validate_and_by_training(
    kind: str, cached: bool, tmp_path: Path
) -> None:
    name, make, reason = HOSTILE[kind]
    path = tmp_path / name
    make(path)
    write_video(tmp_path / "good.mp4")
    entry = ManifestEntry(path, "x")
    cache = tmp_path / "cache" if cached else None
    store = ClipStore(fps=15, frames=32, short_side=32, cache=cache)
    for read in (
        store,
        store.check,
        lambda entry: store.clip(ClipRequest(entry, 0.5)),
        lambda entry: _only_item(InProcessReader(store), entry),
        lambda entry: _only_item(EncodedReader(store), entry),
    ):
        with pytest.raises(MediaError, match=reason) as raised:
            read(entry)
        assert str(path) in str(raised.value)
        assert str(raised.value).count(str(path)) == 1
    (tmp_path / "m.csv").write_text(f"good.mp4,x\n{name},x\n")
    manifest = read_manifest(tmp_path / "m.csv")
    good, bad = validate_manifest(manifest, quiet=True)
    assert (good.problem, bad.path) == (None, path)
    assert bad.problem is not None
    assert reason in bad.problem
    data = DataConfig(
        train=manifest.path, validation=manifest.path, labels=("x", "y"), max_bad_fraction=0.5
    )
    for _ in range(2):
        entries = readable_entries(manifest, data, store)
        assert [entry.path.name for entry in entries] == ["good.mp4"]
        write_report([good, bad], tmp_path / "m.checked.csv")  # the second time, it is read
    quarantine = Quarantine(tmp_path / "quarantine.csv", max_videos=1)
    quarantine.add(entry, bad.problem)
    assert entry in Quarantine(tmp_path / "quarantine.csv", max_videos=1)


def _only_item(reader: InProcessReader | EncodedReader, entry: ManifestEntry) -> None:
    (item,) = reader.read([ClipRequest(entry, 0.5)])
    assert isinstance(item, MediaError)
    raise item


def test_names_that_look_like_addresses_or_are_not_utf8_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["door:1.mp4", "concat:a.mp4", os.fsdecode(b"caf\xe9.mp4")]
    for name in names:
        write_video(tmp_path / "source.mp4")
        (tmp_path / "source.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    entries = [ManifestEntry(Path(name), "x") for name in names]
    for entry in entries:
        assert len(ClipStore(fps=15, frames=32, short_side=32, cache=None)(entry)) == 34
        Quarantine(tmp_path / "quarantine.csv", max_videos=9).add(entry, "for a test")
        assert entry in Quarantine(tmp_path / "quarantine.csv", max_videos=9)


def test_validate_reads_the_picture_the_times_and_every_part(tmp_path: Path) -> None:
    make_file_without_times(tmp_path / "timeless.h264")
    write_video(tmp_path / "phone.mp4", matrix=10)
    write_video(tmp_path / "short.mp4")
    (tmp_path / "m.csv").write_text("phone.mp4,x\ntimeless.h264,x\nshort.mp4,x,7,9\n")
    manifest = read_manifest(tmp_path / "m.csv")
    reports = validate_manifest(manifest, quiet=True)
    assert reports[0].problem is None
    assert "BT.2020 constant luminance (10) is not supported" in reports[0].note
    assert reports[1].problem == "no frame has a presentation time"
    assert reports[2].problem == "no frame between 7 s and 9 s"
    write_report(reports, tmp_path / "m.checked.csv")
    assert [
        read_report(tmp_path / "m.checked.csv")[report.path.resolve()].note for report in reports
    ] == [report.note for report in reports]
    store = ClipStore(fps=15, frames=32, short_side=32, cache=None)
    store.check(manifest.entries[0])
    for entry, report in zip(manifest.entries[1:], reports[1:], strict=True):
        with pytest.raises(MediaError, match=f"{entry.path.name}: {report.problem}"):
            store.check(entry)


def test_a_replaced_matrix_is_logged_once_per_file_and_only_for_the_first_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        write_video(tmp_path / f"{number}.mp4", matrix=11)
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    for _ in range(2):
        for number in range(9):
            store.check(ManifestEntry(tmp_path / f"{number}.mp4", "x"))
            store.clip(ClipRequest(ManifestEntry(tmp_path / f"{number}.mp4", "x"), 0.0))
    lines = [line for line in caplog.messages if "SMPTE ST 2085 (11) is not supported" in line]
    assert len(lines) == 6
    assert lines[-1].startswith("more than 5 files: ")


def test_a_video_that_needs_too_much_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.data.clip_store._MAX_VIDEO_BYTES", 48 * 32 * 3 * 20)
    write_video(tmp_path / "long.mp4")
    entry = ManifestEntry(tmp_path / "long.mp4", "x")
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    with pytest.raises(MediaError, match=r"long\.mp4: its frames need more than"):
        store(entry)
    store.check(entry)  # one frame at a time
    assert store.clip(ClipRequest(entry, 0.0)).shape == (32, 32, 48, 3)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    store = ClipStore(fps=15, frames=32, short_side=None, cache=tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").touch()
    with pytest.raises(TrainingError, match=r"frames cannot be written to .*\.npy: "):
        store(ManifestEntry(tmp_path / "a.mp4", "x"))


def test_evaluation_and_maps_name_the_file(tmp_path: Path, tiny_weights: Path) -> None:
    path = tmp_path / "odd.nut"
    write_video(path, pixel_format="rgb4")
    network = load_model(tiny_weights)
    with pytest.raises(MediaError, match=r"odd\.nut: .*rgb4"):
        list(analyse_video(network, path))
    with pytest.raises(MediaError, match=r"odd\.nut: .*rgb4"):
        recording_timelines(network, [path], stride=4, dtype=torch.float32, quiet=True)
    (tmp_path / "m.csv").write_text("gone.mp4,fall\n")
    with pytest.raises(MediaError, match=r"gone\.mp4: cannot open"):
        recording_hours(read_manifest(tmp_path / "m.csv"))


@pytest.mark.slow
def test_a_validation_video_that_vanishes_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_video(tmp_path / f"{number}.mp4")
    (tmp_path / "train.csv").write_text("0.mp4,a\n1.mp4,b\n")
    (tmp_path / "validation.csv").write_text("2.mp4,a\n3.mp4,b\n4.mp4,b\n")
    run = tiny_run(
        tmp_path / "run",
        train=tmp_path / "train.csv",
        validation=tmp_path / "validation.csv",
        batch=2,
        labels=("a", "b"),
    )
    real = TrainingRun.validate

    def validate(self: TrainingRun) -> object:
        (tmp_path / "3.mp4").unlink()
        return real(self)

    monkeypatch.setattr(TrainingRun, "validate", validate)
    predictions = train_network(run, quiet=True)
    assert predictions.truth_N.tolist() == [0, 1]
    assert torch.isfinite(predictions.probabilities_NK).all()
    np.testing.assert_allclose(predictions.probabilities_NK.sum(1), 1, atol=1e-5)
    assert "3.mp4: cannot open" in (run.out / "log.txt").read_text()

    def validate_nothing(self: TrainingRun) -> object:
        for number in (2, 3, 4):
            (tmp_path / f"{number}.mp4").write_bytes(b"")
        return real(self)

    write_video(tmp_path / "3.mp4")
    monkeypatch.setattr(TrainingRun, "validate", validate_nothing)
    with pytest.raises(DataError, match="every validation video"):
        train_network(run, quiet=True)
