"""Clips and checks of decoding by NVDEC. They run on the fake library, and on a GPU."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from model.device_streams import DeviceStream
from model.media.nvdec import NvdecSession, Surface

__all__ = [
    "CASES",
    "Case",
    "Clip",
    "check_changed_sizes",
    "check_each_packet_gives_its_frame",
    "check_going_on_after_a_flush",
    "check_memory_of_its_own",
    "check_parity",
    "compare",
    "decode_all",
    "open_session",
    "write_clip",
]

SIZE = (208, 152)  # not a multiple of 16: the coded size is larger
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoder and its settings; `matrix` as ITU-T H.273 numbers them."""

    codec: str
    encoder: str
    options: dict[str, str]
    keeps_order: bool = True
    pixels: str = "yuv420p"
    matrix: int | None = None


@dataclasses.dataclass(frozen=True)
class Clip:
    """Packets in decoding order, and what software decodes from them, as NV12 or P016.

    Attributes:
        shown: for each frame in presentation order, the index of its packet.
    """

    case: Case
    size: tuple[int, int]
    packets: list[bytes]
    frames: list[NDArray[Any]]
    shown: list[int]


_B = {"bf": "3", "b_strategy": "0", "sc_threshold": "0", "preset": "fast"}
_P = {"bf": "0", "sc_threshold": "0", "preset": "fast"}
_X265 = {"preset": "ultrafast"}
_VPX = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"}
CASES = {
    "h264": Case("h264", "libx264", _P),
    "h264-reordered": Case("h264", "libx264", _B, keeps_order=False),
    "h264-601": Case("h264", "libx264", _B, keeps_order=False, matrix=6),
    "h264-709": Case("h264", "libx264", _B, keeps_order=False, matrix=1),
    "hevc": Case("hevc", "libx265", _X265 | {"x265-params": "bframes=0:log-level=none"}),
    "hevc-reordered": Case(
        "hevc", "libx265", _X265 | {"x265-params": "bframes=3:log-level=none"}, keeps_order=False
    ),
    "hevc-main10": Case(
        "hevc",
        "libx265",
        _X265 | {"x265-params": "bframes=3:log-level=none"},
        keeps_order=False,
        pixels="yuv420p10le",
    ),
    "vp8": Case("vp8", "libvpx", _VPX),
    "vp9": Case("vp9", "libvpx-vp9", _VPX),
    "av1": Case("av1", "libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1"}, False),
}


def write_clip(
    folder: Path, case: Case, *, size: tuple[int, int] = SIZE, frames: int = 24, gop: int = 12
) -> Clip:
    """Encode moving noise, and read it back as packets and as frames."""
    path = folder / ("clip.webm" if case.codec.startswith("vp") else "clip.mp4")
    noise = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(case.encoder, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = case.pixels
        stream.gop_size = gop
        stream.options = case.options
        if case.matrix is not None:
            stream.codec_context.colorspace = case.matrix
            stream.codec_context.color_range = 1
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(
                _planes(number, size, noise, case.pixels), format=case.pixels
            )
            frame.pts = number
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    packets, times = _packets(path, case.codec)
    shown = sorted(range(len(packets)), key=lambda index: times[index])
    return Clip(case, size, packets, _in_software(path), shown)


def open_session(
    module: Any, device: torch.device, clip: Clip, *, max_size: tuple[int, int] | None = None
) -> NvdecSession:
    """Open a session for a clip."""
    return NvdecSession(
        module,
        codec=clip.case.codec,
        gpu=device.index or 0,
        max_size=max_size or clip.size,
        keeps_order=clip.case.keeps_order,
        stream=DeviceStream(device),
    )


def decode_all(session: NvdecSession, clip: Clip, *, first_tag: int = 0) -> list[Surface]:
    """Decode a clip to its end."""
    surfaces = []
    for index, packet in enumerate(clip.packets):
        surfaces += session.decode(packet, first_tag + index)
    return surfaces + session.flush()


def check_parity(module: Any, device: torch.device, clip: Clip) -> None:
    """The frames of NVDEC are those of software to the bit, in order, with their tags."""
    session = open_session(module, device, clip)
    compare(decode_all(session, clip), clip)
    session.close()


def check_each_packet_gives_its_frame(module: Any, device: torch.device, clip: Clip) -> None:
    """Without reordered frames, no packet waits for the next one."""
    assert clip.case.keeps_order
    session = open_session(module, device, clip)
    for index, packet in enumerate(clip.packets):
        (surface,) = session.decode(packet, index)
        assert surface.tag == index
    assert session.flush() == []
    session.close()


def check_memory_of_its_own(module: Any, device: torch.device, clip: Clip) -> None:
    """Frames keep their content while the decoder goes on and when it is closed."""
    session = open_session(module, device, clip)
    surfaces = decode_all(session, clip)
    addresses = {surface.samples.data_ptr() for surface in surfaces}
    assert len(addresses) == len(surfaces)
    decode_all(session, clip, first_tag=len(clip.packets))
    session.close()
    compare(surfaces, clip)


def check_going_on_after_a_flush(module: Any, device: torch.device, clip: Clip) -> None:
    """After a flush, the same decoder decodes again from a key frame on."""
    session = open_session(module, device, clip)
    for start in range(3):
        first_tag = start * 1000
        compare(decode_all(session, clip, first_tag=first_tag), clip, first_tag=first_tag)
    session.close()


def check_changed_sizes(module: Any, device: torch.device, clips: list[Clip]) -> None:
    """One decoder decodes clips of several sizes; the frames it still holds are not lost."""
    largest = (max(clip.size[0] for clip in clips), max(clip.size[1] for clip in clips))
    session = open_session(module, device, clips[0], max_size=largest)
    surfaces = []
    tag = 0
    for number, clip in enumerate(clips):
        if number:
            assert session.resize(clip.size)
        for packet in clip.packets:
            surfaces += session.decode(packet, tag)
            tag += 1
    surfaces += session.flush()
    assert not session.resize((largest[0] + 33, largest[1]))
    session.close()
    tag = 0
    for clip in clips:
        compare(surfaces[: len(clip.frames)], clip, first_tag=tag)
        del surfaces[: len(clip.frames)]
        tag += len(clip.packets)
    assert not surfaces


def compare(surfaces: list[Surface], clip: Clip, *, first_tag: int = 0) -> None:
    """Compare all frames of a clip with those of software."""
    assert [surface.tag - first_tag for surface in surfaces] == clip.shown
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    for surface, frame in zip(surfaces, clip.frames, strict=True):
        assert (surface.width, surface.height) == clip.size
        assert surface.samples.is_contiguous()
        np.testing.assert_array_equal(surface.samples.cpu().numpy(), frame)


def _planes(
    number: int, size: tuple[int, int], noise: np.random.Generator, pixels: str
) -> NDArray[Any]:
    """Return a frame as the planes of yuv420p below each other."""
    width, height = size
    rows, columns = np.mgrid[0 : height * 3 // 2, 0:width]
    wave = 120 + 50 * np.sin((columns + 5 * number) / 17) + 30 * np.cos((rows - 3 * number) / 11)
    planes = np.clip(wave + noise.normal(0, 4, wave.shape), 16, 235)
    if pixels == "yuv420p10le":
        return (planes * 4).astype(np.uint16)
    return planes.astype(np.uint8)


def _packets(path: Path, codec: str) -> tuple[list[bytes], list[int]]:
    """Return packets, in Annex B where the codec has it, and their times of presentation."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [packet for packet in container.demux(stream) if packet.size]
        times = [int(packet.pts) for packet in found if packet.pts is not None]
        if codec in _FILTERS:
            annex_b = av.BitStreamFilterContext(_FILTERS[codec], stream)
            found = [part for packet in found for part in annex_b.filter(packet)]
        assert len(times) == len(found)
        return [bytes(packet) for packet in found], times


def _in_software(path: Path) -> list[NDArray[Any]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    deep = frames[0].format.name == "yuv420p10le"
    if not deep:
        return [frame.reformat(format="nv12").to_ndarray() for frame in frames]
    return [_p016(frame.to_ndarray(), frame.height) for frame in frames]


def _p016(planes: NDArray[Any], height: int) -> NDArray[Any]:
    """Interleave the chroma planes of yuv420p10le, and move 10 bits to the top of 16."""
    width = planes.shape[1]
    blue, red = planes[height:].reshape(2, height // 2, width // 2)
    chroma = np.empty((height // 2, width), np.uint16)
    chroma[:, 0::2] = blue
    chroma[:, 1::2] = red
    return np.concatenate([planes[:height], chroma]) * np.uint16(64)
