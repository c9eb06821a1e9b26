"""Training files of 1080 rows whose cropping is taken out for DALI's decoder on a GPU."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.coded_video import write_video
from train.data.clip_store import ClipRequest, ClipStore
from train.data.manifest import ManifestEntry
from train.data.readers import EncodedReader
from train.data.uncropped import uncropped

EXTRA = {"libx264": {"preset": "ultrafast", "bf": "2"}, "libx265": {"x265-params": "log-level=0"}}


def lumas(source: str | io.BytesIO) -> list[np.ndarray]:
    with av.open(source) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_frames_keep_their_places_and_get_their_coded_rows(
    tmp_path: Path, codec: str, container: str
) -> None:
    path = write_video(
        tmp_path / f"a.{container}", codec, range(9), size=(320, 180), gop=4, **EXTRA[codec]
    )
    found = uncropped(path)
    assert found is not None
    assert found.rows == 180
    frames, expected = lumas(io.BytesIO(found.data.tobytes())), lumas(str(path))
    assert len(frames) == len(expected) == 9
    for one, other in zip(frames, expected, strict=True):
        assert one.shape[0] > 180
        assert np.array_equal(one[:180], other)


@pytest.mark.parametrize(
    ("codec", "suffix", "size"),
    [
        ("libx264", "mp4", (320, 192)),  # nothing is cropped
        ("libx264", "mp4", (310, 180)),  # columns are cropped too
        ("libvpx-vp9", "webm", (320, 180)),
    ],
)
def test_other_videos_stay_as_they_are(
    tmp_path: Path, codec: str, suffix: str, size: tuple[int, int]
) -> None:
    extra = EXTRA.get(codec, {})
    assert (
        uncropped(write_video(tmp_path / f"a.{suffix}", codec, range(5), size=size, **extra))
        is None
    )


@pytest.mark.parametrize("uncrops", [False, True])
def test_the_reader_of_a_gpu_gives_the_rows_to_cut(tmp_path: Path, uncrops: bool) -> None:
    path = write_video(
        tmp_path / "a.mp4", "libx264", range(40), size=(320, 180), preset="ultrafast"
    )
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    (item,) = EncodedReader(store, uncrops=uncrops).read(
        [ClipRequest(ManifestEntry(path, "x"), 0.0)]
    )
    assert item.places.tolist() == list(range(32))  # type: ignore[union-attr]
    assert item.rows == (180 if uncrops else None)  # type: ignore[union-attr]
    assert (item.data.nbytes == path.stat().st_size) is not uncrops  # type: ignore[union-attr]
