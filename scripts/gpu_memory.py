"""Memory of a GPU on paper: decoders, frames, clips and network, by number and size of cameras.

    python -m scripts.gpu_memory --cameras 128 --size 1920x1080 --codec h264

Every number has its source beside it. They are lower bounds: nothing here knows what the driver,
cuDNN and PyTorch's allocator add, and nothing was compared with a GPU yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Literal

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.media.preprocess import PreprocessConfig
from model.network import ModelConfig, build_model, fold_for_inference
from stream.analysis.config import BatchConfig

__all__ = [
    "DecoderMemory",
    "Row",
    "decoder_memory",
    "dpb_frames",
    "main",
    "network_memory",
    "pipeline_memory",
    "table",
]

Codec = Literal["h264", "hevc"]
# H.264, table A-1: MaxDpbMbs by level. A decoder keeps as many frames as fit, 16 at most.
_H264_MACROBLOCKS = {
    3.1: 18_000,
    3.2: 20_480,
    4.0: 32_768,
    4.1: 32_768,
    4.2: 34_816,
    5.0: 110_400,
    5.1: 184_320,
    5.2: 184_320,
}
# HEVC, table A.8: MaxLumaPs by level. Six frames of this size, more of smaller ones.
_HEVC_SAMPLES = {3.1: 983_040, 4.0: 2_228_224, 4.1: 2_228_224, 5.0: 8_912_896, 5.1: 8_912_896}
# The driver's parser reports how many surfaces a stream needs (`min_num_decode_surfaces`: enough,
# but not the fastest, as NVIDIA's header says). Before it has seen the stream, NVIDIA's samples add
# four surfaces to the frames that the standard asks for; so does this estimate.
_SPARE_SURFACES = 4
# The same samples map two surfaces at once (`ulNumOutputSurfaces`).
_OUTPUT_SURFACES = 2
# Our copies: the frame that the sampler holds until it knows the next one, and the next one.
_COPIES = 2
# Rows of surfaces start at multiples of this: 1920 pixels have a pitch of 2048. An assumption.
_PITCH_BYTES = 256
_MACROBLOCK = 16
# RGB frames of one camera on their way to the ring if nothing is behind: one waits, one is resized.
_USUAL_FRAMES = 2
# Batches of clips if nothing is behind: one waits, one is in the network.
_USUAL_BATCHES = 2
# `max_views` is at least this.
_MIN_VIEWS = 64
_GPU_BATCH = 32
_GPU_FRAMES_AT_ONCE = 64
# What NVIDIA's libraries take before anything is decoded. An assumption until a run reports it.
_CONTEXT_BYTES = 512 << 20


@dataclasses.dataclass(frozen=True)
class DecoderMemory:
    """Bytes of one camera's hardware decoder.

    Attributes:
        decode_surfaces: frames that the decoder writes and refers to.
        output_surfaces: frames that it hands out.
        copies: frames that we keep, without padding.
    """

    decode_surfaces: int
    output_surfaces: int
    copies: int

    @property
    def total(self) -> int:
        """All bytes of one camera."""
        return self.decode_surfaces + self.output_surfaces + self.copies


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: bytes usually, and at most while something is behind."""

    name: str
    usual: int
    at_most: int


def dpb_frames(codec: Codec, level: float, width: int, height: int) -> int:
    """Return the frames that a decoder of this level must keep (H.264 A.3.1, HEVC A.4.2).

    Raises:
        KeyError: the level is not in the table.
    """
    if codec == "h264":
        frames = _H264_MACROBLOCKS[level] // (
            _aligned(width, _MACROBLOCK) * _aligned(height, _MACROBLOCK) // _MACROBLOCK**2
        )
        return min(16, max(1, frames))
    most = _HEVC_SAMPLES[level]
    samples = width * height
    for numerator, frames in ((1, 16), (2, 12), (3, 8)):
        if samples * 4 <= most * numerator:
            return frames
    return 6


def decoder_memory(
    width: int,
    height: int,
    *,
    codec: Codec = "h264",
    level: float = 4.1,
    bit_depth: int = 8,
    copies: int = _COPIES,
) -> DecoderMemory:
    """Compute the memory of one camera's decoder; frames are NV12, or P016 above 8 bits.

    Args:
        width, height: of the largest video that the decoder is made for, pixels: surfaces have
            this size even while the camera sends smaller frames.
        level: of the stream; cameras of 1080p say 4.0 or 4.1.
        copies: frames that the pipeline keeps of one camera.
    """
    sample_bytes = 1 if bit_depth == 8 else 2
    rows = _aligned(height, _MACROBLOCK) * 3 // 2
    surface = _aligned(width * sample_bytes, _PITCH_BYTES) * rows
    own = width * height * 3 // 2 * sample_bytes
    decode = dpb_frames(codec, level, width, height) + _SPARE_SURFACES
    return DecoderMemory(decode * surface, _OUTPUT_SURFACES * surface, copies * own)


def network_memory(
    config: ModelConfig, *, batch: int, height: int, width: int, dtype: torch.dtype
) -> tuple[int, int]:
    """Compute the bytes of a folded network's weights, and the most that a run has at once.

    The network runs on PyTorch's meta device, which does no arithmetic; every result is counted
    as long as it lives. The clips that go in are not counted.
    """
    network = fold_for_inference(build_model(config).eval(), dtype).to("meta")
    clips_BCTHW = torch.empty(batch, 3, config.frames, height, width, dtype=dtype, device="meta")
    with torch.no_grad(), _LivingBytes() as living:
        network(clips_BCTHW)
    states = [*network.parameters(), *network.buffers()]
    return sum(state.nbytes for state in states), living.peak_bytes


class _LivingBytes(TorchDispatchMode):
    """Counts the bytes of all results that live at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._living: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {
            StorageWeakRef(value.untyped_storage())
            for value in tree_leaves((args, kwargs))
            if isinstance(value, torch.Tensor)
        }
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if (reference := StorageWeakRef(storage)) not in given:
                    self._living[reference] = storage.nbytes()
        self._living = {each: n for each, n in self._living.items() if not each.expired()}
        self.peak_bytes = max(self.peak_bytes, sum(self._living.values()))
        return result


def pipeline_memory(
    width: int,
    height: int,
    *,
    cameras: int,
    model: ModelConfig,
    preprocess: PreprocessConfig,
    codec: Codec = "h264",
    level: float = 4.1,
    batch: BatchConfig | None = None,
) -> list[Row]:
    """Compute the memory of a whole pipeline in bfloat16, part by part."""
    batch = batch or BatchConfig()
    clips = batch.max_batch or _GPU_BATCH
    frames_at_once = batch.frames_at_once or _GPU_FRAMES_AT_ONCE
    decoder = decoder_memory(width, height, codec=codec, level=level)
    frame = _rgb_bytes(width, height, preprocess.live_short_side)
    crop = preprocess.height * preprocess.width * 3
    clip = crop * model.frames
    batch_bytes = clips * clip * 2  # bfloat16
    weights, activations = network_memory(
        model,
        batch=clips,
        height=preprocess.height,
        width=preprocess.width,
        dtype=torch.bfloat16,
    )
    slots = batch.max_views or max(_MIN_VIEWS, cameras)
    # The graph's input and its output are both there while it runs.
    resizing = frames_at_once * (frame + crop)
    return [
        _fixed("CUDA context and libraries (assumed)", _CONTEXT_BYTES),
        _fixed("decoders: frames that they refer to", cameras * decoder.decode_surfaces),
        _fixed("decoders: frames that they hand out", cameras * decoder.output_surfaces),
        _fixed("our copies of decoded frames", cameras * decoder.copies),
        Row(
            "RGB frames on their way to the ring",
            cameras * frame * _USUAL_FRAMES,
            cameras * frame * (batch.camera_queue + 1),
        ),
        _fixed("frames in one run of the preprocessing", resizing),
        _fixed("ring of clips", slots * clip),
        Row(
            "batches of clips",
            batch_bytes * _USUAL_BATCHES,
            batch_bytes * (batch.ready_batches + 1),
        ),
        _fixed("network: weights", weights),
        _fixed("network: results of its layers", activations),
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the rows and their sum as a table in Markdown, in MiB."""
    total = Row("**sum**", sum(row.usual for row in rows), sum(row.at_most for row in rows))
    lines = ["| part | usually, MiB | at most, MiB |", "|---|---|---|"]
    lines += [
        f"| {row.name} | {_mib(row.usual):,} | {_mib(row.at_most):,} |" for row in [*rows, total]
    ]
    return "\n".join(lines) + "\n"


def _fixed(name: str, size: int) -> Row:
    return Row(name, size, size)


def _mib(size: int) -> int:
    return round(size / 2**20)


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step


def _rgb_bytes(width: int, height: int, short_side: int) -> int:
    """Bytes of an RGB frame, scaled down until its shorter side is at most `short_side`."""
    scale = min(1.0, short_side / min(width, height))
    return round(width * scale) * round(height * scale) * 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description="Memory of a GPU on paper.")
    parser.add_argument("--cameras", type=int, default=128)
    parser.add_argument("--size", default="1920x1080", help="of the video, WIDTHxHEIGHT")
    parser.add_argument("--codec", choices=("h264", "hevc"), default="h264")
    parser.add_argument("--level", type=float, default=4.1, help="of the stream, such as 4.1")
    parser.add_argument("--backbone", default="i3d", help="of the network, with CIDC")
    parser.add_argument("--side", type=int, default=224, help="of the network's input, pixels")
    options = parser.parse_args(arguments)
    width, height = (int(side) for side in options.size.split("x"))
    rows = pipeline_memory(
        width,
        height,
        cameras=options.cameras,
        codec=options.codec,
        level=options.level,
        model=ModelConfig.model_validate({"backbone": options.backbone, "cidc": {}}),
        preprocess=PreprocessConfig(height=options.side, width=options.side),
    )
    print(table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
