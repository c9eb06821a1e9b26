"""PyNvVideoCodec without a GPU: its interface, decoding with PyAV, surfaces in host memory.

`tests/model/test_nvdec_contract.py` compares names, arguments and numbers with the real library.
`fake_nvc_decoder.py` says how the decoder behaves.
"""

from __future__ import annotations

import collections
import threading
import time
import weakref
from typing import Any

from tests.support.fake_nvc_decoder import (
    DisplayDecodeLatencyType,
    FakeDecoder,
    FakeFrame,
    FakePacketData,
    OutputColorType,
    PixelFormat,
    VideoPacketFlag,
    cudaVideoChromaFormat,
    cudaVideoCodec,
)

__all__ = ["FakeNvc"]


class FakeNvc:
    """Takes the place of the module PyNvVideoCodec.

    Attributes:
        caps: answers of `GetDecoderCaps` by codec (its FFmpeg name) and bit depth.
        delay_seconds: how long each call of `Decode` takes at least.
        raises_on_corrupt: see the file.
        created, closed, decoded, resized: numbers of decoders, of frames and of announced sizes.
        open: decoders that exist now. max_open: most of them at the same time.
        threads: for each decoder's number, the names of the threads that used it.
        arguments: of every call of `CreateDecoder`.
    """

    __version__ = "2.2.4"
    cudaVideoCodec = cudaVideoCodec
    cudaVideoChromaFormat = cudaVideoChromaFormat
    VideoPacketFlag = VideoPacketFlag
    DisplayDecodeLatencyType = DisplayDecodeLatencyType
    OutputColorType = OutputColorType
    Pixel_Format = PixelFormat
    PacketData = FakePacketData
    PyNvDecoder = FakeDecoder
    DecodedFrame = FakeFrame

    class PyNvVCException(Exception):  # noqa: N818
        """The library's general error."""

    class PyNvVCExceptionUnsupported(Exception):  # noqa: N818
        """The library's error for what the GPU does not support."""

    def __init__(self) -> None:
        self.caps: dict[tuple[str, int], dict[str, int]] = _caps()
        self.delay_seconds = 0.0
        self.raises_on_corrupt = False
        self.created = self.closed = self.decoded = self.resized = self.open = self.max_open = 0
        self.threads: dict[int, set[str]] = collections.defaultdict(set)
        self.arguments: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._noise = 0
        self._failures: list[list[Any]] = []
        self._errors: dict[int, Exception] = {}
        self._release: threading.Event | None = None

    def fail_to_create(
        self, times: int = 1, *, codec: str | None = None, error: Exception | None = None
    ) -> None:
        """Make the next creations fail, of all codecs or of one (by its FFmpeg name)."""
        default = self.PyNvVCExceptionUnsupported("HandleVideoSequence : no decoder is free\n")
        self._failures.append([times, codec, error or default])

    def hang_in_decode(self, release: threading.Event | None) -> None:
        """Make all calls of `Decode` wait until the event is set."""
        self._release = release

    def raise_in_decode(self, tag: int, error: Exception | None = None) -> None:
        """Make the next packet of this tag fail."""
        self._errors[tag] = error or self.PyNvVCException("Decode Error occurred for picture 1\n")

    def GetDecoderCaps(  # noqa: N802
        self,
        gpuid: int = 0,
        codec: Any = cudaVideoCodec.H264,
        chromaformat: Any = cudaVideoChromaFormat["420"],
        bitdepth: int = 8,
    ) -> dict[str, int]:
        """Return what the GPU can decode."""
        name = codec.name.lower()
        none = dict.fromkeys(next(iter(_caps().values())), 0)
        if chromaformat.name != "420":
            return none
        return self.caps.get((name, bitdepth), none)

    def CreateDecoder(  # noqa: N802
        self,
        gpuid: int = 0,
        codec: Any = cudaVideoCodec.H264,
        cudacontext: int = 0,
        cudastream: int = 0,
        usedevicememory: bool = False,
        maxwidth: int = 0,
        maxheight: int = 0,
        outputColorType: Any = OutputColorType.NATIVE,
        enableSEIMessage: bool = False,
        bWaitForSessionWarmUp: bool = False,
        latency: Any = DisplayDecodeLatencyType.NATIVE,
        enableDecodeStats: bool = False,
    ) -> FakeDecoder:
        """Create a decoder."""
        given = dict(locals())
        del given["self"]
        with self._lock:
            self.arguments.append(given)
            for failure in self._failures:
                if failure[0] and failure[1] in (None, codec.name.lower()):
                    failure[0] -= 1
                    raise failure[2]
            self.created += 1
            self.open += 1
            self.max_open = max(self.max_open, self.open)
            number = self.created
        low = latency is not DisplayDecodeLatencyType.NATIVE
        decoder = FakeDecoder(self, number, codec, low, (maxwidth, maxheight))
        weakref.finalize(decoder, self._count_closed)
        return decoder

    def enter_decode(self, decoder: FakeDecoder, packet: FakePacketData) -> None:
        """Do what a test has asked for, before a packet is decoded."""
        with self._lock:
            self.threads[decoder.number].add(threading.current_thread().name)
            error = self._errors.pop(packet.pts, None) if packet.bsl else None
        if self._release is not None:
            self._release.wait()
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if error is not None:
            raise error

    def count_decoded(self, frames: int) -> None:
        """Add to the number of decoded frames."""
        with self._lock:
            self.decoded += frames

    def noise(self) -> int:
        """Return a value that earlier surfaces are filled with."""
        self._noise = (self._noise + 37) % 251
        return self._noise

    def _count_closed(self) -> None:
        with self._lock:
            self.open -= 1
            self.closed += 1


def _caps() -> dict[tuple[str, int], dict[str, int]]:
    """Return what an H100 supports, as NVIDIA's tables say."""
    limits = {("h264", 8): (48, 4096), ("vp8", 8): (48, 4096)}
    limits |= {("hevc", bits): (144, 8192) for bits in (8, 10, 12)}
    limits |= {("vp9", bits): (128, 8192) for bits in (8, 10, 12)}
    limits |= {("av1", bits): (128, 8192) for bits in (8, 10)}
    return {
        key: {
            "num_decoder_engines": 7,
            "width_max": high,
            "height_max": high,
            "mb_num_max": high * high // 256,
            "width_min": low,
            "height_min": low,
        }
        for key, (low, high) in limits.items()
    }
