"""The decoder of the fake PyNvVideoCodec, its values, and how it behaves.

The real library runs on a stand-in for the driver in `test_nvdec_contract.py`, which shows most of
this. Where the real behaviour is not known, the fake takes the case that is harder for its user:

- Surfaces are used again: each call of `Decode` first fills all earlier ones with noise.
- After a size change that `setReconfigParams` did not announce, frames keep their old size. The
  real library scales them; the fake fills them with noise, and counts them as `unannounced`.
- `setReconfigParams` drops the frames that the decoder holds.
- NATIVE holds four frames, as documented; the real library asks the driver for one.
- In latency LOW, a packet without the flag ENDOFPICTURE gives its frame with the next packet.
- Nothing comes out before a key frame, at the start and after the end of a stream (assumed).
- A packet that cannot be decoded gives no frame; `raises_on_corrupt` makes it raise (assumed).
"""

from __future__ import annotations

import collections
import ctypes
import enum
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DisplayDecodeLatencyType",
    "FakeDecoder",
    "FakeFrame",
    "FakePacketData",
    "OutputColorType",
    "PixelFormat",
    "VideoPacketFlag",
    "cudaVideoChromaFormat",
    "cudaVideoCodec",
]

_DELAY_FRAMES = 4
_SHIFT_10_BIT = 6
_FFMPEG_NAMES = {"H264": "h264", "HEVC": "hevc", "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d"}
_UNSIGNED = ("bsl", "bsl_data", "duration", "pos")


class _Enum(enum.Enum):
    """As pybind11's: a member is not a number, but converts to one."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


def _members(name: str, members: dict[str, int]) -> Any:
    return _Enum(name, members)


cudaVideoCodec = _members(  # noqa: N816 - the library's names
    "cudaVideoCodec", {"H264": 4, "HEVC": 8, "VP8": 9, "VP9": 10, "AV1": 11}
)
cudaVideoChromaFormat = _members(  # noqa: N816
    "cudaVideoChromaFormat", {"Monochrome": 0, "420": 1, "422": 2, "444": 3}
)
VideoPacketFlag = _members(
    "VideoPacketFlag",
    {"ENDOFSTREAM": 1, "TIMESTAMP": 2, "DISCONTINUITY": 4, "ENDOFPICTURE": 8, "NOTIFY_EOS": 16},
)
DisplayDecodeLatencyType = _members("DisplayDecodeLatencyType", {"NATIVE": 0, "LOW": 1, "ZERO": 2})
OutputColorType = _members("OutputColorType", {"NATIVE": 0, "RGB": 1, "RGBP": 2})
PixelFormat = _members("Pixel_Format", {"NV12": 3, "P016": 5})


class Owner(Protocol):
    """What a decoder needs of the fake module."""

    raises_on_corrupt: bool
    resized: int
    unannounced: int

    def error(self, function: str, code: int, text: str) -> Exception:
        """Return the library's exception, with a text as it writes them."""

    def enter_decode(self, decoder: FakeDecoder, packet: FakePacketData) -> None:
        """Do what a test has asked for, before a packet is decoded."""

    def count_decoded(self, frames: int) -> None:
        """Add to the number of decoded frames."""

    def noise(self) -> int:
        """Return a value that earlier surfaces are filled with."""


class FakePacketData:
    """A packet: the address and length of its bytes, and numbers."""

    def __init__(self) -> None:
        for name in (*_UNSIGNED, "pts", "dts", "decode_flag", "key", "bDiscontinuity", "seek_pts"):
            setattr(self, name, 0)

    def __setattr__(self, name: str, value: Any) -> None:
        number = value.__index__() if hasattr(value, "__index__") else None
        lowest, highest = (0, 2**64) if name in _UNSIGNED else (-(2**63), 2**63)
        if number is None or not lowest <= number < highest:
            raise TypeError(f"incompatible function arguments: {name} = {value!r}")
        super().__setattr__(name, number)


class FakeFrame:
    """A decoded frame; its samples belong to the decoder."""

    def __init__(self, samples: NDArray[Any], tag: int) -> None:
        self._samples = samples
        self._tag = tag
        self.format = PixelFormat.NV12 if samples.dtype == np.uint8 else PixelFormat.P016

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of luma and of chroma together, and columns."""
        return self._samples.shape

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of samples."""
        return self._samples.dtype.str.replace("<", "|")

    @property
    def timestamp(self) -> int:
        """The packet's `pts`."""
        return self._tag

    def getPTS(self) -> int:  # noqa: N802
        """Return the packet's `pts`."""
        return self._tag

    def GetPtrToPlane(self, arg0: int) -> int:  # noqa: N802
        """Return the address of the luma (0) or of the chroma (1)."""
        rows = self._samples.shape[0] * 2 // 3
        return int(self._samples[arg0 * rows :].ctypes.data)

    def __dlpack__(self, stream: object = 0) -> Any:
        return self._samples.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class FakeDecoder:
    """One decoder; see the file for how it behaves."""

    def __init__(self, nvc: Owner, number: int, codec: Any, low: bool, limits: Any) -> None:
        self.number = number
        self.limits = limits
        self.refusal: Exception | None = None
        self._nvc = nvc
        self._low = low
        self._context: Any = av.CodecContext.create(_FFMPEG_NAMES[codec.name], "r")
        self._context.thread_count = 1
        self._held: collections.deque[Any] = collections.deque()
        self._surfaces: list[NDArray[Any]] = []
        self._size: tuple[int, int] | None = None
        self._announced: tuple[int, int] | None = None
        self._is_deep = False
        self._has_key_frame = False

    def Decode(self, arg0: FakePacketData) -> list[FakeFrame]:  # noqa: N802
        """Decode a packet; return the frames that it completes."""
        packet = arg0
        self._nvc.enter_decode(self, packet)
        for surface in self._surfaces:
            surface.fill(self._nvc.noise())
        is_end = packet.bsl == 0 or bool(packet.decode_flag & VideoPacketFlag.ENDOFSTREAM.value)
        if packet.bsl:
            data = ctypes.string_at(packet.bsl_data, packet.bsl)
            self._decode(data, packet.pts)
        if is_end:
            self._drain()
        frames = [self._frame(place, found) for place, found in enumerate(self._due(packet))]
        self._nvc.count_decoded(len(frames))
        return frames

    def GetNumDecodedFrame(self, arg0: FakePacketData) -> int:  # noqa: N802
        """Decode a packet; return the number of frames that it completes."""
        return len(self.Decode(arg0))

    def GetWidth(self) -> int:  # noqa: N802
        """Return the width of frames."""
        return self._size[0] if self._size else 0

    def GetHeight(self) -> int:  # noqa: N802
        """Return the height of frames."""
        return self._size[1] if self._size else 0

    def setReconfigParams(self, width: int = 0, height: int = 0) -> int:  # noqa: N802
        """Announce the size of the frames that follow."""
        if width > self.limits[0] or height > self.limits[1]:
            raise RuntimeError(
                "Resize dimensions must be lower than max width and height, please recreate"
                " decoder instance"
            )
        self._drain()
        self._held.clear()
        self._announced = (width, height)
        self._nvc.resized += 1
        return 1

    def _decode(self, data: bytes, tag: int) -> None:
        packet: Any = av.Packet(data)
        packet.pts = tag
        try:
            self._take(self._context.decode(packet))
        except (av.error.InvalidDataError, av.error.PatchWelcomeError) as error:
            if self._nvc.raises_on_corrupt:
                raise self._nvc.error(
                    "HandlePictureDecode",
                    999,
                    "m_api.cuvidDecodePicture(m_hDecoder, pPicParams) returned error 999",
                ) from error

    def _drain(self) -> None:
        self._take(self._context.decode(None))
        self._context.flush_buffers()
        self._has_key_frame = False

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            self._has_key_frame = self._has_key_frame or bool(frame.key_frame)
            if not self._has_key_frame:
                continue
            samples = _samples(frame, self._nvc)
            self._check_format((frame.width, frame.height), samples.dtype.itemsize == 2)
            if self._announced == (frame.width, frame.height):
                self._size, self._announced = self._announced, None
            if self._size != (frame.width, frame.height):
                self._nvc.unannounced += 1
                width, height = self._size or (0, 0)
                samples = np.full((height * 3 // 2, width), self._nvc.noise(), samples.dtype)
            self._held.append((frame.pts, samples))

    def _check_format(self, size: tuple[int, int], is_deep: bool) -> None:
        """Refuse what a decoder cannot be changed to; its first frame decides what that is."""
        if self._size is None:
            self._size = size
            self._is_deep = is_deep
            self.limits = (max(self.limits[0], size[0]), max(self.limits[1], size[1]))
        if size[0] > self.limits[0] or size[1] > self.limits[1]:
            raise self._nvc.error(
                "ReconfigureDecoder",
                801,
                "Reconfigure Not supported when width/height > maxwidth/maxheight",
            )
        if is_deep != self._is_deep:
            raise self._nvc.error(
                "ReconfigureDecoder", 801, "Reconfigure Not supported for bit depth change"
            )

    def _due(self, packet: FakePacketData) -> list[tuple[int, NDArray[Any]]]:
        flag = packet.decode_flag
        if not packet.bsl or flag & VideoPacketFlag.ENDOFSTREAM.value:
            keep = 0
        elif self._low:
            keep = 0 if flag & VideoPacketFlag.ENDOFPICTURE.value else 1
        else:
            keep = _DELAY_FRAMES
        return [self._held.popleft() for _ in range(len(self._held) - keep)]

    def _frame(self, place: int, found: tuple[int, NDArray[Any]]) -> FakeFrame:
        """Put a frame into the surface of this place, which the call before has used too."""
        tag, samples = found
        if place == len(self._surfaces):
            self._surfaces.append(np.empty_like(samples))
        surface = self._surfaces[place]
        if (surface.shape, surface.dtype) != (samples.shape, samples.dtype):
            surface = self._surfaces[place] = np.empty_like(samples)
        surface[...] = samples
        return FakeFrame(surface, tag)


def _samples(frame: Any, nvc: Owner) -> NDArray[Any]:
    """Return a frame of PyAV as NV12 or P016, without any conversion of colours."""
    if frame.format.name not in ("yuv420p", "yuvj420p", "yuv420p10le"):
        raise nvc.PyNvVCExceptionUnsupported(
            "HandleVideoSequence : Codec not supported on this GPU"
        )
    is_deep = frame.format.name == "yuv420p10le"
    dtype = np.dtype("<u2" if is_deep else "u1")
    luma, blue, red = (
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    )
    chroma = np.stack([blue, red], axis=2).reshape(blue.shape[0], -1)[:, : luma.shape[1]]
    samples = np.concatenate([luma, chroma])
    return np.ascontiguousarray(samples << _SHIFT_10_BIT if is_deep else samples)
