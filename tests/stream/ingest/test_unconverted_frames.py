"""Cameras and files whose frames decode but need another colour matrix, or cannot be converted."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from configs import MediaError
from model.media.conversion import FrameConverter
from tests.support.chaos import TcpCamera, streamed
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


def write_video(path: Path, *, matrix: int = 2, pixel_format: str = "yuv420p") -> None:
    """Write two seconds; `matrix` is the number of the colour matrix that the file names."""
    codec = "libx264" if pixel_format == "yuv420p" else "rawvideo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        stream.codec_context.colorspace = matrix
        for number in range(30):
            frame = av.VideoFrame(64, 48, pixel_format)
            for plane, value in zip(frame.planes, (100 + number, 90, 170), strict=False):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("matrix", [8, 10, 11, 14])
def test_a_file_with_another_matrix_is_analysed_and_says_so_once(
    matrix: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "phone.mp4"
    write_video(path, matrix=matrix)
    with seen(str(path), pace="fast") as watched:
        assert until(lambda: watched.status.state == "ended")
    assert len(watched.frames) == 30
    assert watched.states[-1] == ("ended", "end of file")
    lines = [line for line in caplog.messages if "is used instead" in line]
    assert len(lines) == 1
    assert lines[0].startswith("camera a: colour matrix ")
    # The colours are those of one of the two matrices, computed from their definitions: BT.709
    # for YCgCo, BT.2020 for the others.
    red, blue = (0.2126, 0.0722) if matrix == 8 else (0.2627, 0.0593)
    y = (100 - 16) * 255 / 219
    r = y + 2 * (1 - red) * (170 - 128) * 255 / 224
    b = y + 2 * (1 - blue) * (90 - 128) * 255 / 224
    g = (y - red * r - blue * b) / (1 - red - blue)
    found = watched.frames[0].frame_HWC.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(found, np.clip([r, g, b], 0, 255), atol=4)


def test_a_file_without_conversion_says_that_and_counts_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "odd.nut"
    write_video(path, pixel_format="rgb4")
    with seen(str(path), pace="fast") as watched:
        assert until(lambda: watched.status.state == "ended")
    assert watched.frames == []
    detail = watched.states[-1][1]
    assert detail.startswith("end of file, 30 frames could not be converted (")
    assert "rgb4" in detail
    assert "decoded" not in detail
    metrics = watched.metrics
    assert metrics.by_label(metrics.dropped_frames, "reason", camera="a") == {"conversion": 30}
    assert metrics.total(metrics.corrupt) == 0
    assert sum(line.startswith("camera a: a frame") for line in caplog.messages) == 1


@pytest.mark.slow
def test_a_camera_whose_frames_cannot_be_converted_is_reopened_and_says_why(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FrameConverter, frame: object) -> object:
        raise MediaError("pixel format odd cannot be converted")

    monkeypatch.setattr(FrameConverter, "__call__", refuse)
    config = QUICK.model_copy(update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.5})
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url, config) as watched:
        assert until(lambda: camera.connections >= 2, 12), watched.states
    assert ("stalled", "pixel format odd cannot be converted") in watched.states
