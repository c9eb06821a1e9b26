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
        unannounced: number of frames whose size was not announced.
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
        self.unannounced = 0
        self.threads: dict[int, set[str]] = collections.defaultdict(set)
        self.arguments: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._noise = 0
        self._failures: list[list[Any]] = []
        self._errors: dict[int, Exception] = {}
        self._release: threading.Event | None = None

    def fail_to_create(
        self,
        times: int = 1,
        *,
        codec: str | None = None,
        error: Exception | None = None,
        at_first_packet: bool = False,
    ) -> None:
        """Make the next creations fail, of all codecs or of one (by its FFmpeg name).

        Args:
            at_first_packet: the decoder fails when it gets packets, as if the GPU refused it; the
                real library asks the GPU only then.
        """
        text = "m_api.cuvidCreateDecoder(&m_hDecoder, &videoDecodeCreateInfo) returned error 801"
        default = self.error("HandleVideoSequence", 801, text)
        self._failures.append([times, codec, error or default, at_first_packet])

    def error(self, function: str, code: int, text: str) -> Exception:
        """Return the library's exception, with a text as it writes them."""
        return self.PyNvVCException(
            f"{function} : \nError code : {code}\nError Type : {text}\nat /project/src/N.cpp:430\n"
        )

    def hang_in_decode(self, release: threading.Event | None) -> None:
        """Make all calls of `Decode` wait until the event is set."""
        self._release = release

    def raise_in_decode(self, tag: int, error: Exception | None = None) -> None:
        """Make the next packet of this tag fail."""
        text = "m_api.cuvidDecodePicture(m_hDecoder, pPicParams) returned error 999"
        self._errors[tag] = error or self.error("HandlePictureDecode", 999, text)

    def GetDecoderCaps(  # noqa: N802
        self,
        gpuid: int = 0,
        codec: Any = cudaVideoCodec.H264,
        chromaformat: Any = cudaVideoChromaFormat["420"],
        bitdepth: int = 8,
    ) -> dict[str, int]:
        """Return what the GPU can decode."""
        name = codec.name.lower()
        found = self.caps.get((name, bitdepth)) if chromaformat.name == "420" else None
        return (found or dict.fromkeys(_CAPS, 0)) | {
            "codec_id": int(codec),
            "chromaformat_id": int(chromaformat),
            "bitdepth": bitdepth,
        }

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
        late_error = None
        with self._lock:
            self.arguments.append(given)
            for failure in self._failures:
                if failure[0] and failure[1] in (None, codec.name.lower()):
                    failure[0] -= 1
                    if not failure[3]:
                        raise failure[2]
                    late_error = failure[2]
            self.created += 1
            self.open += 1
            self.max_open = max(self.max_open, self.open)
            number = self.created
        low = latency is not DisplayDecodeLatencyType.NATIVE
        decoder = FakeDecoder(self, number, codec, low, (maxwidth, maxheight))
        decoder.refusal = late_error
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
        error = error or decoder.refusal
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


_CAPS = (
    "supported",
    "num_decoder_engines",
    "width_max",
    "height_max",
    "mb_num_max",
    "width_min",
    "height_min",
)


def _caps() -> dict[tuple[str, int], dict[str, int]]:
    """Return what an H100 supports, as NVIDIA's tables say."""
    limits = {("h264", 8): (48, 4096), ("vp8", 8): (48, 4096)}
    limits |= {("hevc", bits): (144, 8192) for bits in (8, 10, 12)}
    limits |= {("vp9", bits): (128, 8192) for bits in (8, 10, 12)}
    limits |= {("av1", bits): (128, 8192) for bits in (8, 10)}
    return {
        key: {
            "supported": 1,
            "num_decoder_engines": 7,
            "width_max": high,
            "height_max": high,
            "mb_num_max": high * high // 256,
            "width_min": low,
            "height_min": low,
        }
        for key, (low, high) in limits.items()
    }
