"""The clip store: its cache, short videos, and parts of a video."""

from pathlib import Path

import numpy as np
import pytest

from model.media.video import sampled_frames
from train.data.clip_store import ClipRequest, ClipStore, Frames
from train.data.manifest import ManifestEntry, read_manifest


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


@pytest.mark.slow
def test_a_part_of_a_video_has_the_frames_of_the_whole(scenes: Path) -> None:
    path = scenes / "recordings/camera-1.mp4"
    # so fine a grid that every frame appears
    part = sampled_frames(path, 1000.0, start_seconds=7.3, end_seconds=10.1)
    whole = {frame.tobytes() for frame in sampled_frames(path, 1000.0)}
    assert all(frame.tobytes() in whole for frame in part)
    lasting = len(sampled_frames(path, 15.0, start_seconds=7.3, end_seconds=10.1)) / 15
    assert lasting == pytest.approx(2.8, abs=0.2)
    assert len(np.unique([hash(frame.tobytes()) for frame in part])) > 20


def test_a_clip_is_the_right_one_while_other_threads_read_others(scenes: Path) -> None:
    """Whatever a thread notes as the latest clip, another thread replaces at once."""

    class Shared(ClipStore):
        other: tuple[ClipRequest, Frames] | None = None

        @property
        def _latest_clip(self) -> tuple[ClipRequest, Frames] | None:
            return self.other

        @_latest_clip.setter
        def _latest_clip(self, _: tuple[ClipRequest, Frames] | None) -> None:
            """Do as the other thread does: forget this clip."""

    first, second = read_manifest(scenes / "clips/manifest.csv").entries[:2]
    store = Shared(fps=15, frames=32, short_side=None, cache=None)
    alone = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    expected = alone.clip(ClipRequest(second, 0.0))
    Shared.other = (ClipRequest(first, 0.0), alone.clip(ClipRequest(first, 0.0)))
    np.testing.assert_array_equal(store.clip(ClipRequest(second, 0.0)), expected)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("speed", [0.5, 1.0, 1.3, 9.0])
def test_a_clip_at_a_speed_spreads_its_frames_evenly(
    scenes: Path, speed: float, in_memory: bool
) -> None:
    path = scenes / "recordings/camera-1.mp4"
    entry = ManifestEntry(path, "x", 2.0, 6.0)
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None, in_memory=in_memory)
    whole = ClipStore(fps=15, frames=32, short_side=None, cache=None)(entry)
    shown = min(speed, (len(whole) - 1) / 31)  # at most all of it
    for start in (0.0, 1.0):
        clip = store.clip(ClipRequest(entry, start, speed=speed))
        last = len(whole) - 1
        places = [round(index * shown) for index in range(32)]
        if start:
            places = [place + last - places[-1] for place in places]
        np.testing.assert_array_equal(clip, whole[places])
