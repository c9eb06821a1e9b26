"""Files with known colours and sizes, decoded by DALI and in software."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from model.media.preprocess import CropSpec, PreprocessConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.readers import ClipReader, EncodedReader, InProcessReader

__all__ = ["BT601", "BT709", "decoded_both_ways", "write_tagged"]

BT709, BT601 = 1, 6  # as ITU-T H.273 numbers them
_SIZE = 96


def write_tagged(path: Path, codec: str, size: tuple[int, int], matrix: int) -> Path:
    """Write 40 frames of colours that move, tagged with a colour matrix.

    DALI's RGB is corrected after it was clipped, so the colours are those that neither matrix
    clips. A block in a colour of its own marks the bottom rows, where a wrong height shows.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=15)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 1
        for number in range(40):
            luma = np.full((height, width), 100, np.uint8)
            luma[:, 2 * number * width // 100 :] = 150
            luma[-height // 12 :] = 140
            blue = np.full((height // 2, width // 2), 110, np.uint8)
            red = np.full((height // 2, width // 2), 160, np.uint8)
            red[-height // 24 :] = 90
            planes = np.concatenate([plane.ravel() for plane in (luma, blue, red)])
            picture = planes.reshape(height * 3 // 2, width)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded_both_ways(path: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return clips `B T H W C` of a file by DALI's decoder and by software, both on the CPU.

    The crops are at the top, in the middle and at the bottom of the frames.

    Raises:
        AssertionError: DALI refused the file, so that software would be compared with itself.
    """
    framing = PreprocessConfig(short_side=_SIZE, height=_SIZE // 2, width=_SIZE)
    entry = ManifestEntry(path, "x")
    planned = [
        PlannedClip(entry, start, CropSpec(_SIZE, 0.5, crop_y), 0)
        for start, crop_y in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))
    ]
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    encoded = EncodedReader(store)

    def clips(reader: ClipReader, on: torch.device) -> Tensor:
        (batch,) = batches(planned, 3, reader=reader, preprocess=framing, device=on)
        return batch.clips_BTHWC.cpu()

    by_dali = clips(encoded, device)
    assert encoded._facts[path].suits, "DALI did not decode the file"
    return by_dali, clips(InProcessReader(store), torch.device("cpu"))
