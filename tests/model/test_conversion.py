"""Conversion to RGB: colour matrices, ranges, pixel formats and rotation."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from configs import MediaError
from model.media.conversion import FrameConverter, quarter_turns, rgb_frame
from model.media.video import decode_frames, sampled_frames

# Luma coefficients of red and blue, from ITU-R BT.601, BT.709, BT.2020 and FCC 73.682.
COEFFICIENTS = {
    "601": (0.299, 0.114),
    "709": (0.2126, 0.0722),
    "2020": (0.2627, 0.0593),
    "240": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
YUV = (120, 90, 170)


def closed_form(
    matrix: str, yuv: tuple[float, float, float] = YUV, *, full: bool = False
) -> list[float]:
    """Compute the RGB value of a YCbCr value from the definition of the matrix."""
    red, blue = COEFFICIENTS[matrix]
    luma, chroma = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    y = (yuv[0] - (0 if full else 16)) * luma
    cb, cr = ((value - 128) * chroma for value in yuv[1:])
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    return [r, (y - red * r - blue * b) / (1 - red - blue), b]


def plain_frame(
    pixel_format: str = "yuv444p", size: tuple[int, int] = (64, 48), matrix: int = 2
) -> av.VideoFrame:
    frame = av.VideoFrame(*size, pixel_format)
    for plane, value in zip(frame.planes, YUV, strict=False):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace = matrix
    return frame


ACCEPTED = {0: "601", 1: "709", 2: "601", 4: "fcc", 5: "601", 6: "601", 7: "240", 9: "2020"}
REPLACED = {8: "709", 10: "2020", 11: "2020", 14: "2020", 15: "2020", 16: "709", 17: "709"}
UNKNOWN = dict.fromkeys((3, 12, 13, 18, 200, 255), "601")  # because the frame is small
NEAREST = ACCEPTED | REPLACED | UNKNOWN


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("short_side", [None, 24])
@pytest.mark.parametrize("number", NEAREST)
def test_every_matrix_gives_the_colours_of_the_nearest_one(
    number: int, short_side: int | None, full: bool
) -> None:
    messages: list[str] = []
    convert = FrameConverter(short_side, on_fallback=messages.append)
    for pixel_format in ("yuv444p", "yuv420p", "yuv422p"):
        frame = plain_frame(pixel_format, matrix=number)
        frame.color_range = 2 if full else 1
        rgb = convert(frame)
        assert rgb.shape == ((48, 64, 3) if short_side is None else (24, 32, 3))
        expected = np.clip(closed_form(NEAREST[number], full=full), 0, 255)
        np.testing.assert_allclose(rgb.reshape(-1, 3).mean(0), expected, atol=3)
        assert frame.colorspace == number  # the frame itself is not changed
    assert len(messages) == (0 if number in ACCEPTED else 1)
    assert all(f"({number})" in message for message in messages)


def test_frames_of_hd_size_with_an_unknown_matrix_are_read_as_bt709() -> None:
    for size, matrix in (((1280, 720), "709"), ((720, 1280), "709"), ((720, 576), "601")):
        rgb = rgb_frame(plain_frame(size=size, matrix=3))
        np.testing.assert_allclose(rgb[0, 0], closed_form(matrix), atol=3)


@pytest.mark.parametrize(
    ("primaries", "matrix"), [(1, "709"), (5, "601"), (6, "601"), (7, "240"), (9, "2020")]
)
@pytest.mark.parametrize("number", [12, 13])
def test_a_matrix_derived_from_the_primaries_is_theirs(
    number: int, primaries: int, matrix: str
) -> None:
    frame = plain_frame(matrix=number)
    frame.color_primaries = primaries
    np.testing.assert_allclose(rgb_frame(frame)[0, 0], closed_form(matrix), atol=3)


def test_a_range_that_does_not_exist_is_read_as_limited() -> None:
    frame = plain_frame(matrix=1)
    frame.color_range = 3
    np.testing.assert_allclose(rgb_frame(frame)[0, 0], closed_form("709"), atol=3)


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "gray", "pal8", "rgba", "xyz12le"])
def test_formats_without_chroma_do_not_need_the_matrix(pixel_format: str) -> None:
    messages: list[str] = []
    frame = av.VideoFrame(16, 16, "rgb24")
    frame.planes[0].update(bytes([10, 100, 200]) * (frame.planes[0].buffer_size // 3))
    if pixel_format == "pal8":
        frame = av.VideoFrame(16, 16, "pal8")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
    elif pixel_format != "rgb24":
        frame = frame.reformat(format=pixel_format)
    before = rgb_frame(frame)
    frame.colorspace = 10
    np.testing.assert_array_equal(FrameConverter(None, on_fallback=messages.append)(frame), before)
    assert messages == []


MIDDLE_GREY = {
    "nv12": (b"\x80", 130),
    "p010le": (b"\x00\x80", 130),
    "yuv420p10le": (b"\x00\x02", 130),
    "yuv444p12le": (b"\x00\x08", 130),
    "yuvj420p": (b"\x80", 128),
    "yuva420p": (b"\x80", 130),
    "ayuv": (b"\x80", 130),
}


@pytest.mark.parametrize("pixel_format", MIDDLE_GREY)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 15)])
def test_other_yuv_formats_and_odd_sizes_fall_back_too(
    pixel_format: str, size: tuple[int, int]
) -> None:
    sample, grey = MIDDLE_GREY[pixel_format]
    frame = av.VideoFrame(*size, pixel_format)
    for plane in frame.planes:
        plane.update(sample * (plane.buffer_size // len(sample)))
    frame.colorspace = 10
    rgb = rgb_frame(frame)
    assert rgb.shape == (size[1], size[0], 3)
    np.testing.assert_allclose(rgb, grey, atol=2)  # grey is the same in every matrix


@pytest.mark.parametrize("pixel_format", ["rgb4", "rgbaf32le", "gray32le", "xv30be"])
def test_a_format_without_conversion_is_named(pixel_format: str) -> None:
    frame = av.VideoFrame(16, 16, pixel_format)
    with pytest.raises(MediaError, match=f"{pixel_format} and size 16x16 cannot be converted"):
        rgb_frame(frame)


@pytest.mark.parametrize(("pixel_format", "size"), [("yaf32le", (16, 16)), ("bayer_rggb8", (4, 1))])
def test_formats_that_would_abort_the_process_are_refused(
    pixel_format: str, size: tuple[int, int]
) -> None:
    with pytest.raises(MediaError, match="cannot be converted to RGB"):
        rgb_frame(av.VideoFrame(*size, pixel_format))


def test_a_strip_is_refused_before_it_takes_gigabytes() -> None:
    with pytest.raises(MediaError, match="161x20 is too narrow"):
        rgb_frame(plain_frame(size=(161, 20)))
    assert rgb_frame(plain_frame(size=(160, 20))).shape == (20, 160, 3)


def test_a_display_matrix_that_is_no_rotation_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(plain_frame("yuv420p")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    # The matrix lies 44 bytes after the name of the track header, version 0.
    first = data.index(b"tkhd") + 44
    assert int.from_bytes(data[first : first + 4], "big") == 1 << 16
    data[first : first + 36] = bytes(36)
    path.write_bytes(data)
    frame = next(decode_frames(path))
    assert quarter_turns(frame) == 0
    assert rgb_frame(frame).shape == (48, 64, 3)


@pytest.mark.parametrize(("name", "matrix"), [("bt2020cl", "2020"), ("ycgco", "709")])
def test_files_of_the_field_have_the_colours_that_players_show(
    shared_data: Path, name: str, matrix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared_data / f"field/h264_{name}.mp4"
    if not path.is_file():
        pytest.skip(f"no {path.name} among the real clips")
    frame = next(decode_frames(path))
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]
    patch = (planes[0][100:120, 120:140], planes[1][50:60, 60:70], planes[2][50:60, 60:70])
    expected = np.clip(closed_form(matrix, tuple(float(part.mean()) for part in patch)), 0, 255)
    found = rgb_frame(frame)[100:120, 120:140].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(found, expected, atol=3)
    assert len(sampled_frames(path, 15)) == pytest.approx(35, abs=1)
    sampled_frames(path, 15)
    assert sum(str(path) in line for line in caplog.messages) <= 1


@pytest.mark.parametrize("short_side", [None, 24])
@pytest.mark.parametrize("size", [(64, 48), (65, 48), (65, 49)])
def test_every_grey_level_is_right_at_even_and_odd_widths(
    size: tuple[int, int], short_side: int | None
) -> None:
    errors = []
    for level in range(16, 236):
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, (level, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        errors.append(
            FrameConverter(short_side, is_exact=True)(frame)
            - closed_form("601", (level, 128, 128))[0]
        )
    filters = short_side is not None or size != (64, 48)
    assert np.abs(errors).max() < (0.51 if filters else 1)  # without filters, it rounds down
    assert abs(np.mean(errors)) < (0.01 if filters else 0.5)
