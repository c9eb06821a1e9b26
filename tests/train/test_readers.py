"""Clips by every way of decoding: the frames are the same."""

import collections
import os
import pickle
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from configs import ConfigError, MediaError, TrainingError
from model.media.preprocess import CropSpec, EncodedClip, Preprocessor
from tests.train.runs import SMALL_FRAMES
from train.config import DataConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipRequest, ClipStore
from train.data.loader import batches, open_reader, open_store
from train.data.manifest import ManifestEntry, read_manifest
from train.data.quarantine import Quarantine
from train.data.readers import EncodedReader, InProcessReader, WorkerReader, dali_facts


def store() -> ClipStore:
    return ClipStore(fps=15, frames=32, short_side=None, cache=None)


def requests_of(manifest: Path) -> list[ClipRequest]:
    return [
        ClipRequest(entry, number % 4 / 3)
        for number, entry in enumerate(read_manifest(manifest).entries)
    ]


def write_vp9(path: Path, *, frames: int = 70, rate: int = 30, codec: str = "libvpx-vp9") -> Path:
    """A square that moves over a slope of colours."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = 160
        stream.height = 96
        stream.pix_fmt = "yuv420p"
        slope = np.linspace(30, 220, 160, dtype=np.uint8)
        for number in range(frames):
            frame = np.stack(
                [
                    np.tile(slope, (96, 1)),
                    np.full((96, 160), 110, np.uint8),
                    np.tile(slope[::-1], (96, 1)),
                ],
                axis=2,
            )
            frame[30:60, 2 * number % 120 :][:, :30] = 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.slow
def test_a_clip_has_the_frames_of_the_whole_file(shared_data: Path) -> None:
    files = [
        path
        for folder in ("actions", "robust")
        for path in sorted((shared_data / folder).rglob("*"))
        if path.suffix
    ]
    compared: collections.Counter[str] = collections.Counter()
    for path in files[::5]:
        if path.stat().st_size > 3_000_000:
            continue
        entry = ManifestEntry(path, "x")
        try:
            whole = store()(entry)
        except MediaError:
            with pytest.raises(MediaError):
                store().clip(ClipRequest(entry, 0.5))
            compared["bad"] += 1
            continue
        for start in (0.0, 0.37, 1.0):
            first = round(start * (len(whole) - 32))
            np.testing.assert_array_equal(
                store().clip(ClipRequest(entry, start)),
                whole[first : first + 32],
                err_msg=f"{path} at {start}",
            )
        compared["by time" if store().frame_places(ClipRequest(entry, 0.0)) else "whole"] += 1
    assert compared["by time"] >= 10
    assert compared["whole"] >= 3
    assert compared["bad"] >= 1


def test_a_clip_between_two_times_is_decoded_alone(scenes: Path) -> None:
    path = read_manifest(scenes / "recordings/truth.csv").entries[0].path
    entry = ManifestEntry(path, "x", 5.0, 9.0)
    whole = store()(entry)
    for start in (0.0, 0.5, 1.0):
        first = round(start * (len(whole) - 32))
        np.testing.assert_array_equal(
            store().clip(ClipRequest(entry, start)), whole[first : first + 32]
        )


@pytest.mark.slow
def test_workers_give_the_same_clips_in_order_and_name_bad_videos(
    scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    requests = requests_of(scenes / "clips/manifest.csv")[:5]
    requests.insert(2, ClipRequest(ManifestEntry(tmp_path / "bad.mp4", "fall"), 0.0))
    reader = WorkerReader(store(), 2)
    try:
        for wanted in (requests, requests[3:], requests[:1]):  # the workers live on between passes
            expected = list(InProcessReader(store()).read(wanted))
            for ours, theirs in zip(reader.read(wanted), expected, strict=True):
                if isinstance(theirs, MediaError):
                    assert isinstance(ours, MediaError)
                    assert str(ours) == str(theirs)
                    assert "bad.mp4" in str(ours)
                else:
                    assert not isinstance(ours, (MediaError, EncodedClip))
                    assert not isinstance(theirs, EncodedClip)
                    np.testing.assert_array_equal(ours, theirs)
        next(reader.read(requests))  # given up in the middle
        (again,) = reader.read(requests[:1])
        assert isinstance(again, np.ndarray)
    finally:
        reader.close()


def test_scaling_in_the_conversion_is_within_a_grey_level_or_two(scenes: Path) -> None:
    entry = read_manifest(scenes / "clips/manifest.csv").entries[0]
    early = ClipStore(fps=15, frames=32, short_side=None, cache=None, scale_early=True)
    planned = [
        PlannedClip(entry, 0.5, CropSpec(60, 0.3, 1.0, True), 0),
        PlannedClip(entry, 0.0, CropSpec(0), 0),
    ]
    assert {min(early.clip(ClipRequest(entry, 0.5, 60)).shape[1:3])} == {60}
    # never enlarged
    assert (
        early.clip(ClipRequest(entry, 0.5, 5000)).shape
        == store().clip(ClipRequest(entry, 0.5)).shape
    )
    (ours,) = batches(planned, 2, reader=InProcessReader(early), preprocess=SMALL_FRAMES)
    (exact,) = batches(planned, 2, reader=InProcessReader(store()), preprocess=SMALL_FRAMES)
    difference = (ours.clips_BTHWC.int() - exact.clips_BTHWC.int()).abs().float()
    assert difference.mean() < 2
    assert (
        ours.clips_BTHWC[:, 1:].int() - exact.clips_BTHWC[:, :-1].int()
    ).abs().float().mean() > difference.mean()


@pytest.mark.slow
def test_workers_outlive_a_signal_to_the_group_and_start_without_cached_frames(
    scenes: Path,
) -> None:
    requests = requests_of(scenes / "clips/manifest.csv")[:8]
    full = store()
    full(requests[0].entry)
    assert pickle.loads(pickle.dumps(full)).__dict__ == store().__dict__
    reader = WorkerReader(store(), 1)
    try:
        clips = reader.read(requests)
        next(clips)
        (worker,) = reader.process_ids
        os.kill(worker, signal.SIGTERM)
        assert len(list(clips)) == 7
        clips = reader.read(requests * 4)
        next(clips)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"worker ended .* of these files: .*background/0"):
            list(clips)
    finally:
        reader.close()
    assert reader.process_ids == []
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_dali_decodes_the_clip_that_software_decodes(tmp_path: Path) -> None:
    path = write_vp9(tmp_path / "a.webm")
    planned = [
        PlannedClip(ManifestEntry(path, "x"), start, CropSpec(side, place, 0.5, mirror), 0)
        for start, side, place, mirror in (
            (0.0, 48, 0.0, False),
            (0.4, 60, 0.7, True),
            (1.0, 96, 1.0, False),
        )
    ]
    encoded = EncodedReader(store())
    assert all(
        isinstance(item, EncodedClip)
        for item in encoded.read([ClipRequest(item.entry, item.start) for item in planned])
    )
    (ours,) = batches(planned, 3, reader=encoded, preprocess=SMALL_FRAMES)
    (theirs,) = batches(planned, 3, reader=InProcessReader(store()), preprocess=SMALL_FRAMES)
    difference = (ours.clips_BTHWC.int() - theirs.clips_BTHWC.int()).abs().float()
    assert difference.mean() < 3  # colour conversion rounds differently
    # A frame too early or too late would show: neighbours in time differ by more than the two
    # decoders do.
    late = (ours.clips_BTHWC[:, 1:].int() - theirs.clips_BTHWC[:, :-1].int()).abs().float()
    assert late.mean() > 2 * difference.mean()


def test_what_dali_cannot_decode_is_decoded_in_software(
    scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On the CPU that is every H.264 file; on the GPU a broken one."""
    good = write_vp9(tmp_path / "good.webm")
    h264 = read_manifest(scenes / "clips/manifest.csv").entries[0].path
    cut = tmp_path / "cut.webm"
    cut.write_bytes(good.read_bytes()[:-400])
    (tmp_path / "none.webm").write_bytes(b"")
    planned = [
        PlannedClip(ManifestEntry(path, "x"), 1.0, CropSpec(48), 0)
        for path in (good, h264, cut, tmp_path / "none.webm")
    ]
    quarantine = Quarantine(tmp_path / "q.csv", max_videos=2)
    (ours,) = batches(
        planned, 4, reader=EncodedReader(store()), preprocess=SMALL_FRAMES, quarantine=quarantine
    )
    (theirs,) = batches(
        planned,
        4,
        reader=InProcessReader(store()),
        preprocess=SMALL_FRAMES,
        quarantine=Quarantine(tmp_path / "q2.csv", max_videos=1),
    )
    assert torch.equal(ours.clips_BTHWC[1], theirs.clips_BTHWC[1])
    assert (ours.clips_BTHWC.int() - theirs.clips_BTHWC.int()).abs().float().mean() < 3
    assert ours.planned == theirs.planned
    assert f"{h264}: DALI cannot decode" in caplog.text
    assert f"{good}: DALI cannot decode" not in caplog.text


def test_rotated_videos_are_not_left_to_dali(shared_data: Path) -> None:
    rotated = [
        path
        for path in sorted((shared_data / "robust").rglob("*"))
        if "rotat" in path.name or "90" in path.stem
    ]
    seen = 0
    for path in rotated:
        try:
            upright = dali_facts(path).suits
        except MediaError:
            continue
        (item,) = EncodedReader(store()).read([ClipRequest(ManifestEntry(path, "x"), 0.0)])
        if not upright:
            seen += 1
            assert isinstance(item, np.ndarray)
    assert seen >= 1


@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("matrix", [1, 2, 5, 9])
def test_dali_gives_the_colours_of_software(tmp_path: Path, matrix: int, colour_range: int) -> None:
    path = tmp_path / "plain.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=15, options={"lossless": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colour_range
        for number in range(34):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane, value in zip(frame.planes, (120, 100, 150), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    entry = ManifestEntry(path, "x")
    (clip,) = EncodedReader(store()).read([ClipRequest(entry, 0.0)])
    assert isinstance(clip, EncodedClip)
    assert (clip.correction is None) == (matrix in (2, 5))
    dali = Preprocessor(SMALL_FRAMES, max_batch=1).decode([clip], [CropSpec(0)])[0, 0, 20, 30]
    software = store().clip(ClipRequest(entry, 0.0))[0, 20, 30]
    np.testing.assert_allclose(dali.numpy(), software, atol=3)


def test_the_reader_that_suits_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(device: str = "cpu", **settings: object) -> object:
        fields = {
            "train": tmp_path / "t",
            "validation": tmp_path / "v",
            "labels": ("a", "b"),
            **settings,
        }
        data = DataConfig.model_validate(fields)
        return open_reader(data, open_store(data, 32), torch.device(device))

    assert isinstance(reader(), WorkerReader)
    assert isinstance(reader(workers=0), InProcessReader)
    assert isinstance(reader(cache_in_memory=True), InProcessReader)
    assert isinstance(reader(decoder="dali"), EncodedReader)
    assert isinstance(reader("cuda"), EncodedReader)
    assert isinstance(reader("cuda", decoder="software"), WorkerReader)
    assert isinstance(reader("cuda", cache=tmp_path / "c"), InProcessReader)
    with pytest.raises(ConfigError, match=r"data\.decoder"):
        reader(decoder="dali", cache=tmp_path / "c")
    monkeypatch.setattr(WorkerReader, "fits", lambda _: False)
    assert isinstance(reader(), InProcessReader)
