"""Convert decoded surfaces to RGB: NV12 with 8 bits, P016 with 10 bits.

A surface is `3/2*H W`: H rows of luma, then H/2 rows of interleaved Cb and Cr. Letters: H and W
space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs import ShapeError
from model.kernels import Launch, run_on_gpu
from model.media.colour import has_full_range, luma_coefficients, rgb_from_yuv
from model.media.conversion import scaled_size
from model.media.scale_weights import Axis, scale_both
from model.mixing import MixingPath, mixing_choice

__all__ = ["SurfaceColours", "SurfaceConverter", "surface_kernels"]

_log = logging.getLogger(__name__)

_ELEMENTS = {torch.uint8: "unsigned char", torch.uint16: "unsigned short"}
_BLOCK = (32, 8)
_LEFT_SITED = frozenset({"h264", "hevc"})
_BT601 = (0.299, 0.114)


@dataclasses.dataclass(frozen=True)
class SurfaceColours:
    """How the samples of a stream become colours.

    Attributes:
        coefficients: luma coefficients of red and blue.
        has_full_range: whether the samples use all values; False: the range of television.
        is_left_sited: whether a chroma sample lies at the left two of its four pixels; False: in
            their centre.
    """

    coefficients: tuple[float, float] = _BT601
    has_full_range: bool = False
    is_left_sited: bool = True

    @classmethod
    def of(cls, frame: Any, codec: str = "h264") -> SurfaceColours:
        """Read the colours of a decoded frame of PyAV, as `FrameConverter` does.

        PyAV does not tell where the chroma samples lie. FFmpeg assumes the left for H.264 and
        HEVC, and the centre for other codecs, unless the stream says otherwise.

        Args:
            frame: the frame.
            codec: FFmpeg's name of the codec.
        """
        return cls(luma_coefficients(frame), has_full_range(frame), codec in _LEFT_SITED)

    def transform(self, dtype: torch.dtype) -> tuple[list[list[float]], list[float]]:
        """Return matrix and offsets that make R, G, B in grey levels of Y, Cb, Cr samples.

        Args:
            dtype: type of the samples; the 10 bits of uint16 are its upper ones.

        Returns:
            Three rows of the matrix, and one offset for each.
        """
        unit = 1.0 if dtype == torch.uint8 else 256.0  # samples of one step of 8 bits
        if self.has_full_range:
            black, steps = 0.0, np.array([1.0, 1.0, 1.0])
        else:
            black, steps = 16.0, np.array([255 / 219, 255 / 224, 255 / 224])
        matrix = rgb_from_yuv(*self.coefficients) * steps
        offsets = -matrix @ np.array([black, 128.0, 128.0])
        return (matrix / unit).tolist(), offsets.tolist()


class SurfaceConverter:
    """Converts the surfaces of one camera to upright RGB and scales them down in one step.

    It computes the same picture as `FrameConverter` of the same frame: the same size, the same
    siting of chroma, and FFmpeg's antialiased BILINEAR filter. Its arithmetic is float32.

    Args:
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.
            None: frames keep their size.
        path: `auto` uses the CUDA kernel on a GPU where it can run, `cuda` requires it,
            `reference` uses plain PyTorch.
    """

    def __init__(self, *, short_side: int | None, path: MixingPath = "auto") -> None:
        self._short_side = short_side
        self._path = path
        self._has_warned = False

    def __call__(
        self, samples: Tensor, *, width: int, height: int, colours: SurfaceColours, turns: int = 0
    ) -> Tensor:
        """Convert one surface on its device; on a GPU, on PyTorch's current stream.

        Args:
            samples: uint8 or uint16 `3/2*H W`; rows may lie further apart than W samples.
            width, height: size that is shown, in pixels; what lies right and below is cut.
            colours: colours of the stream.
            turns: number of quarter turns to the left after scaling.

        Returns:
            uint8 RGB `H W 3` on the same device, contiguous, in memory of its own.

        Raises:
            ShapeError: the samples are not such a surface, or are too few for the size.
            KernelError: `path` is `cuda` and the kernel cannot run here.
        """
        if self._uses_kernel(samples.device):
            return self.by_kernel(
                run_on_gpu, samples, width=width, height=height, colours=colours, turns=turns
            )
        _check(samples, width, height)
        luma, chroma = self._axes(width, height, colours)
        rows = samples.shape[0] // 3 * 2
        pairs = samples[rows:].unflatten(1, (-1, 2))
        planes_XY = (
            scale_both(samples[:rows], *luma),
            scale_both(pairs[..., 0], *chroma),
            scale_both(pairs[..., 1], *chroma),
        )
        rgb = _mixed(planes_XY, *colours.transform(samples.dtype)).permute(2, 1, 0)
        return torch.rot90(rgb, turns).contiguous()

    def by_kernel(
        self,
        run: Callable[[Launch], None],
        samples: Tensor,
        *,
        width: int,
        height: int,
        colours: SurfaceColours,
        turns: int = 0,
    ) -> Tensor:
        """Convert one surface with one kernel launch; `run` launches the kernel."""
        raise NotImplementedError

    def _axes(
        self, width: int, height: int, colours: SurfaceColours
    ) -> tuple[tuple[Axis, Axis], tuple[Axis, Axis]]:
        """Return rows and columns of luma, and those of chroma."""
        columns, rows = scaled_size(width, height, self._short_side)
        luma = (Axis(height, rows), Axis(width, columns))
        quarters = int(colours.is_left_sited)
        chroma = (Axis(-(-height // 2), rows), Axis(-(-width // 2), columns, quarters=quarters))
        return luma, chroma

    def _uses_kernel(self, device: torch.device) -> bool:
        reason = mixing_choice(self._path, device)[1]
        if reason and self._path == "auto" and device.type == "cuda" and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "surfaces are converted by plain PyTorch, not by the CUDA kernel: %s", reason
            )
        return not reason


def surface_kernels() -> Iterator[str]:
    """Yield the name of every kernel that `SurfaceConverter` can launch."""
    for element in _ELEMENTS.values():
        yield f"surface_to_rgb<{element}>"


def _mixed(
    planes_XY: tuple[Tensor, Tensor, Tensor], matrix: list[list[float]], offsets: list[float]
) -> Tensor:
    """Return uint8 RGB `3 X Y` of the planes Y, Cb, Cr."""
    luma, blue, red = planes_XY
    out = torch.empty((3, *luma.shape), dtype=torch.uint8, device=luma.device)
    for channel, (row, offset) in enumerate(zip(matrix, offsets, strict=True)):
        mixed = (luma * row[0]).add_(offset + 0.5)
        if row[1]:
            mixed.add_(blue, alpha=row[1])
        if row[2]:
            mixed.add_(red, alpha=row[2])
        out[channel] = mixed.clamp_(0, 255.5)
    return out


def _check(samples: Tensor, width: int, height: int) -> None:
    fits = (
        samples.dim() == 2
        and samples.dtype in _ELEMENTS
        and samples.shape[0] % 3 == 0
        and samples.shape[1] % 2 == 0
        and samples.stride(1) == 1
    )
    if not fits:
        raise ShapeError(
            "a surface must be uint8 or uint16 3/2*H W with an even W and rows without gaps,"
            f" got {samples.dtype} {tuple(samples.shape)} with strides {samples.stride()}"
        )
    rows = samples.shape[0] // 3 * 2
    if not (0 < width <= samples.shape[1] and 0 < height <= rows):
        raise ShapeError(
            f"a surface of {samples.shape[1]}x{rows} pixels cannot show {width}x{height}"
        )
