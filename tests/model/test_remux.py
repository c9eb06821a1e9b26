"""Packets put into a container in memory, read back with PyAV."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from model.media.remux import presentation_places, remux, stream_template
from tests.support.coded_video import write_video

CODECS = {
    "libx264": "mp4",
    "libx265": "mp4",
    "libvpx-vp9": "webm",
    "libvpx": "webm",
    "mjpeg": "avi",
}


def read(path: Path) -> tuple[list[Any], Any]:
    """The packets of a video and a template of its stream; the video is closed."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return packets, stream_template(stream)


def lumas(source: Any) -> list[NDArray[np.uint8]]:
    """The luma planes of all frames, in the order of the decoder."""
    with av.open(source) as container:
        return [
            np.array(frame.planes[0]).reshape(-1, frame.planes[0].line_size)[:, : frame.width]
            for frame in container.decode(video=0)
        ]


def remuxed(path: Path, **options: Any) -> NDArray[np.uint8]:
    packets, template = read(path)
    places = presentation_places([packet.pts for packet in packets])
    return remux(packets, places, template=template, **options)


@pytest.mark.parametrize("container", ["usual", "ts"])
@pytest.mark.parametrize("codec", CODECS)
def test_frames_are_the_same_and_numbered_in_presentation_order(
    tmp_path: Path, codec: str, container: str
) -> None:
    if container == "ts" and codec not in ("libx264", "libx265"):
        pytest.skip("MPEG-TS has no place for it")
    suffix = CODECS[codec] if container == "usual" else container
    extra = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_video(tmp_path / f"a.{suffix}", codec, range(20), size=(160, 128), **extra)
    data = io.BytesIO(remuxed(path, size=(160, 128)).tobytes())
    frames = lumas(data)
    expected = lumas(str(path))
    assert len(frames) == 20
    assert all(np.array_equal(*pair) for pair in zip(frames, expected, strict=True))
    data.seek(0)
    with av.open(data) as container_read:
        times = [frame.pts for frame in container_read.decode(video=0)]
    assert len(set(np.diff(times))) == 1


@pytest.mark.parametrize(
    ("codec", "size", "coded"),
    [
        ("libx264", (1920, 1080), (1920, 1088)),
        ("libx264", (640, 360), (640, 368)),
        ("libx264", (630, 360), (640, 368)),
        ("libx265", (636, 356), (640, 360)),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_the_cropping_is_taken_out_of_the_stream(
    tmp_path: Path, codec: str, size: tuple[int, int], coded: tuple[int, int], container: str
) -> None:
    """1080 rows become 1088, and the first 1080 are the same picture."""
    extra = {"x265-params": "log-level=none"} if codec == "libx265" else {"preset": "ultrafast"}
    path = write_video(tmp_path / f"a.{container}", codec, range(4), size=size, gop=2, **extra)
    with av.open(str(path)) as before:
        next(before.decode(video=0))
        context = before.streams.video[0].codec_context
        assert (context.coded_width, context.coded_height) == coded
    data = io.BytesIO(remuxed(path, size=coded, is_cropped=True).tobytes())
    with av.open(data) as after:
        stream = after.streams.video[0]
        assert (stream.width, stream.height) == coded
    data.seek(0)
    width, height = size
    frames, expected = lumas(data), lumas(str(path))
    assert [frame.shape for frame in frames] == [(coded[1], coded[0])] * 4
    assert all(
        np.array_equal(one[:height, :width], other[:height])
        for one, other in zip(frames, expected, strict=True)
    )


def test_places_are_those_of_presentation() -> None:
    assert presentation_places([0, 4, 2, 1, 3]) == [0, 4, 2, 1, 3]
    assert presentation_places([10, 40, 20]) == [0, 2, 1]
