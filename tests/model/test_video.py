from pathlib import Path

import numpy as np
import pytest

from configs import MediaError
from model.media.conversion import rgb_frame
from model.media.presentation_order import PresentationOrder
from model.media.video import decode_frames


@pytest.mark.slow
def test_frame_counts_match_the_list_made_with_another_decoder(
    shared_data: Path, shared_files: list[dict[str, str]]
) -> None:
    """Files without decode errors and with one video stream give as many frames as listed."""
    checked = 0
    for row in shared_files:
        if (
            not row["path"].startswith("robust/")
            or not row["frames_decoded"].isdigit()
            or row["frames_decoded"] == "0"
        ):
            continue
        if (
            any(
                word in row["notes"]
                for word in ("error", "corrupt", "2 video streams", "not increasing")
            )
            or "truncated" in row["path"]
        ):
            continue
        assert sum(1 for _ in decode_frames(shared_data / row["path"])) == int(
            row["frames_decoded"]
        ), row["path"]
        checked += 1
    assert checked > 60


def test_unusable_files_say_why(shared_data: Path) -> None:
    expected = {
        "derived/zero_length.mp4": "cannot open",
        "derived/not_a_video.mp4": "cannot open",
        "derived/nasa_audio_only.mp4": "no video stream",
        "mp4parse/short-cenc.mp4": "no frame could be decoded",
    }
    for name, reason in expected.items():
        with pytest.raises(MediaError, match=reason):
            list(decode_frames(shared_data / "robust" / name))
    with pytest.raises(MediaError, match="cannot open: No such file"):
        list(decode_frames(shared_data / "nowhere.mp4"))


def test_rotation_is_applied(shared_data: Path) -> None:
    frame = next(decode_frames(shared_data / "robust/mp4parse/video_rotation_90.mp4"))
    upright = rgb_frame(frame)
    coded = frame.to_ndarray(format="rgb24")
    assert upright.shape == (100, 60, 3)
    # -90 counter-clockwise is a quarter turn clockwise: the first coded row becomes the last
    # column.
    np.testing.assert_array_equal(upright[:, -1], coded[0])
    assert upright.flags["C_CONTIGUOUS"]


def test_disorder_is_sorted_and_jumps_pass() -> None:
    order: PresentationOrder[float] = PresentationOrder()
    times = [1, 2, 4, 3, 5, 7, 6, 8, 10, 9, 11]
    out = [item for time in times for item in order.push(time / 25, time / 25)] + order.flush()
    assert out == sorted(out)
    assert len(out) == len(times) - 1  # the first late frame cannot be put back
    assert [*order.push(5.0, 5.0), *order.push(0.1, 0.1), *order.flush()] == [5.0, 0.1]


def test_an_ordered_stream_is_never_held_back() -> None:
    order: PresentationOrder[int] = PresentationOrder()
    assert [order.push(index, index / 30) for index in range(50)] == [
        [index] for index in range(50)
    ]
