"""Decode one camera's packets on a GPU's video engines (NVDEC), with one decoder that stays open.

No GPU has run this yet. The tests run PyNvVideoCodec 2.2.4 on a stand-in for the driver. It shows:

- The library copies each decoded frame to a surface of its own, without waiting, on the stream that
  it was given. The next call overwrites this surface. `__dlpack__` makes no stream wait.
- `CreateDecoder` creates only the parser. The hardware decoder comes with the first packet, so that
  `decode` reports what the GPU refuses.
- The library does not notice a size change that `setReconfigParams` did not announce: it scales the
  new frames to the old size. `setReconfigParams` drops frames that the decoder still holds.
- The bit depth cannot change, and no size may exceed the limits or, if larger, the first size.
- A frame that the GPU reports as damaged is given as any other.
- A frame starts at the top left of the coded frame, also where the stream cuts lines or columns
  there (which is rare). An odd width is rounded up; with an odd height the shape is unusable.
- `Decode` lets other Python threads run.
- Where CUDA cannot start, `CreateDecoder` ends the process. It has started by then: the CUDA stream
  of the session exists before.

What is assumed of the driver and the hardware:

1. In latency LOW, a packet with the flag ENDOFPICTURE gives its frame in the same call.
2. After a packet with the flag ENDOFSTREAM, the decoder takes packets again, from a key frame on.
3. A frame carries the `pts` of its packet, also where frames are reordered.
4. After an exception, releasing the decoder is safe. Whether it could go on is not known.
5. A packet with the two fields of an interlaced frame gives one frame.
6. With limits that are multiples of 32, a decoder takes all sizes below, whatever the codec's
   block size is.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from configs import MediaError
from model.device_streams import DeviceStream
from model.media.nvdec_library import (
    CODECS,
    DecoderCaps,
    LibraryErrors,
    decoder_caps,
    nvdec_module,
    why_not_nvdec,
)

__all__ = [
    "CODECS",
    "DecoderCaps",
    "NvdecSession",
    "Surface",
    "decoder_caps",
    "nvdec_module",
    "why_not_nvdec",
]

# The decoder compares its limits with the coded size, which is larger than the shown one: a
# multiple of a block, at most 32 rows (a pair of macroblocks of interlaced H.264).
_SIZE_STEP = 32
# Packets whose frames may still come: decoders hold 16 frames at most, and 4 for the latency.
_MAX_TAGS = 128
_DTYPES = {"NV12": torch.uint8, "P016": torch.uint16}


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """A decoded frame as the decoder gives it, in memory of its own.

    Attributes:
        tag: the tag of the packet that holds this frame.
        samples: `3/2*H W`: H rows of luma, then H/2 rows of interleaved Cb and Cr; uint8 (NV12), or
            uint16 (P016) with the value in the upper bits.
    """

    tag: int
    samples: Tensor

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.samples.shape[1]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.samples.shape[0] * 2 // 3


class NvdecSession:
    """One hardware decoder of one camera; one thread uses it.

    The library overwrites its surfaces in the next call. They are therefore copied at once, device
    to device, and let go. Nobody waits for the copy: the library writes its surfaces on the stream
    that it was given, the copy runs on the same stream, and a stream does one thing after the
    other. So the copy starts after the frame is complete, and the next frame is written after the
    copy. A `Surface` is ready on this stream; work on another stream must wait for an event of it,
    and note that it uses the samples (`DeviceStream.keep`).

    Close a session after a MediaError, and open another one at a key frame.

    Args:
        module: see `nvdec_module`.
        codec: FFmpeg's name, one of `CODECS`.
        gpu: index of the GPU.
        max_size: largest width and height that the decoder can be resized to.
        keeps_order: the stream has no B-frames. The decoder then gives each frame at once. If
            False, it holds up to four frames, and gives them in presentation order.
        stream: the stream of the session; on the CPU (in tests) it does nothing.

    Raises:
        DeviceMemoryError: the GPU has too little memory.
        MediaError: the decoder cannot be created.
    """

    def __init__(
        self,
        module: Any,
        *,
        codec: str,
        gpu: int,
        max_size: tuple[int, int],
        keeps_order: bool,
        stream: DeviceStream,
    ) -> None:
        if codec not in CODECS:
            raise MediaError(f"NVDEC does not decode {codec}; it decodes {', '.join(CODECS)}")
        self._module = module
        self._name = f"NVDEC on GPU {gpu}"
        self._codec = codec
        self._keeps_order = keeps_order
        self._stream = stream
        self._max_size = tuple(-(-length // _SIZE_STEP) * _SIZE_STEP for length in max_size)
        self._tags: collections.deque[int] = collections.deque(maxlen=_MAX_TAGS)
        self._last_tag = -1
        self._ready: list[Surface] = []
        self._decoder: Any = None
        with self._stream, self._errors("cannot open a decoder"):
            self._decoder = self._create(gpu)

    def decode(self, data: bytes, tag: int) -> list[Surface]:
        """Decode a packet, and return the frames that are complete, in presentation order.

        Args:
            data: one access unit; Annex B for H.264 and HEVC. Empty data is ignored.
            tag: number of the packet, from 0 on, larger than that of the packet before.

        Raises:
            DeviceMemoryError: the GPU has too little memory for the decoder or a copy of a frame.
            MediaError: the GPU does not decode this stream or this packet, or the frames are not
                what they should be.
        """
        ready, self._ready = self._ready, []
        if not data:  # the library takes it for the end of the stream
            return ready
        flags = self._module.VideoPacketFlag
        # Without B-frames a packet is known to be complete, so that its frame need not wait for
        # the next packet.
        flag = int(flags.ENDOFPICTURE) if self._keeps_order else 0
        self._tags.append(tag)
        return ready + self._given(data, tag, flag)

    def flush(self) -> list[Surface]:
        """Return the frames that the decoder still holds, as at the end of a stream.

        Afterwards the session decodes again, from a key frame on.

        Raises:
            DeviceMemoryError, MediaError: see `decode`.
        """
        ready, self._ready = self._ready, []
        surfaces = ready + self._given(b"", 0, int(self._module.VideoPacketFlag.ENDOFSTREAM))
        self._tags.clear()
        self._last_tag = -1
        return surfaces

    def resize(self, size: tuple[int, int]) -> bool:
        """Prepare for frames of another size, before their first packet, which is a key frame.

        Nobody else notices a change of size: frames would keep their old size, scaled or cut. The
        frames that the decoder still holds come with the next call of `decode` or `flush`.

        Args:
            size: width and height of the shown frame, such as 1920 and 1080.

        Returns:
            False if the size is larger than the session's maximum; a new session is then needed.

        Raises:
            DeviceMemoryError, MediaError: see `decode`; or the decoder refuses the size.
        """
        width, height = size
        if width > self._max_size[0] or height > self._max_size[1]:
            return False
        self._ready = self.flush()
        with self._stream, self._errors(f"cannot be resized to {width}x{height}"):
            self._wait()  # the library frees its surfaces, which copies may still read
            self._opened().setReconfigParams(width=width, height=height)
        return True

    def close(self) -> None:
        """Release the decoder and its memory, after the copies of its surfaces; repeatable."""
        if self._decoder is None:
            return
        with self._stream, self._errors("cannot be closed"):
            try:
                self._wait()
            finally:
                self._decoder = None
        self._ready = []

    def _wait(self) -> None:
        """Wait until the device has done the session's work."""
        event = self._stream.record()
        if event is not None:
            event.synchronize()

    def _create(self, gpu: int) -> Any:
        latency = self._module.DisplayDecodeLatencyType
        return self._module.CreateDecoder(
            gpuid=gpu,
            codec=getattr(self._module.cudaVideoCodec, CODECS[self._codec]),
            cudacontext=0,  # the GPU's primary context, which PyTorch uses too
            cudastream=self._stream.handle,
            usedevicememory=True,
            maxwidth=self._max_size[0],
            maxheight=self._max_size[1],
            latency=latency.LOW if self._keeps_order else latency.NATIVE,
        )

    def _given(self, data: bytes, tag: int, flag: int) -> list[Surface]:
        """Give the decoder a packet; return copies of the frames that it completes."""
        packet = self._module.PacketData()
        # The library reads from the address during the call only; `data` lives until then.
        packet.bsl_data = np.frombuffer(data, np.uint8).ctypes.data if data else 0
        packet.bsl = len(data)
        packet.pts = tag
        packet.decode_flag = flag
        with self._stream, self._errors("cannot decode a packet"):
            frames = self._opened().Decode(packet)
            return [self._copied(frame) for frame in frames]

    def _copied(self, frame: Any) -> Surface:
        tag = int(frame.getPTS())
        self._check_tag(tag)
        samples = torch.utils.dlpack.from_dlpack(frame)
        layout = str(frame.format).rpartition(".")[2]
        rows, width = samples.shape if samples.dim() == 2 else (0, 0)
        if samples.dtype != _DTYPES.get(layout) or not rows or rows % 3 or width % 2:
            raise MediaError(
                f"{self._name} gives {self._codec} as {layout} {samples.dtype}"
                f" {tuple(samples.shape)}; NV12 or P016 with even width and height is needed:"
                " decode this stream in software"
            )
        return Surface(tag, samples.clone(memory_format=torch.contiguous_format))

    def _check_tag(self, tag: int) -> None:
        if tag not in self._tags:
            raise MediaError(
                f"{self._name} gives a frame of packet {tag}, which it did not get or whose frame"
                " it gave already: decode this stream in software"
            )
        self._tags.remove(tag)
        if self._keeps_order and tag < self._last_tag:
            raise MediaError(
                f"{self._name} gives packet {tag} after {self._last_tag}: the stream has B-frames;"
                " open a session that reorders frames"
            )
        self._last_tag = tag

    def _opened(self) -> Any:
        if self._decoder is None:
            raise MediaError(f"{self._name} is closed; open a new session")
        return self._decoder

    def _errors(self, action: str) -> LibraryErrors:
        return LibraryErrors(f"{self._name}: {self._codec} {action}")
