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
from numpy.typing import NDArray
from torch import Tensor

from configs import ShapeError
from model.kernels import Argument, Launch, run_on_gpu
from model.media.colour_matrix import rgb_from_yuv
from model.media.scale_weights import Axis, scale_both, scaled_size
from model.mixing import MixingPath, mixing_choice

__all__ = ["SurfaceColours", "SurfaceConverter", "surface_kernels"]

_log = logging.getLogger(__name__)

_ELEMENTS = {torch.uint8: "unsigned char", torch.uint16: "unsigned short"}
_BLOCK = (32, 8)
_LEFT_SITED = frozenset({"h264", "hevc"})
_BT601 = (0.299, 0.114)
_FIXED_POINT = 8192  # FFmpeg's code without filters has coefficients of 13 bits after the point


@dataclasses.dataclass(frozen=True)
class SurfaceColours:
    """How the samples of a stream become colours.

    Attributes:
        coefficients: luma coefficients of red and blue.
        has_full_range: whether the samples use all values; False: limited range (luma 16 to 235).
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
        # Only this needs PyAV; the kernels' checks on a GPU run without it.
        from model.media.colour import has_full_range, luma_coefficients

        return cls(luma_coefficients(frame), has_full_range(frame), codec in _LEFT_SITED)

    def zeros(self, dtype: torch.dtype) -> tuple[float, float]:
        """Return the samples of black luma and of chroma without colour."""
        unit = _unit(dtype)
        return (0.0 if self.has_full_range else 16.0) * unit, 128.0 * unit

    def matrix(self, dtype: torch.dtype) -> NDArray[np.float64]:
        """Return the matrix `3 3` that makes R, G, B of samples Y, Cb, Cr above `zeros`.

        Args:
            dtype: type of the samples; the 10 bits of uint16 are its upper ones.
        """
        levels = (1.0, 1.0, 1.0) if self.has_full_range else (255 / 219, 255 / 224, 255 / 224)
        return rgb_from_yuv(*self.coefficients) * levels / _unit(dtype)


class SurfaceConverter:
    """Converts the surfaces of one camera to upright RGB and scales them down in one step.

    The picture is that of `FrameConverter` for the same frame: its size, filter, place of chroma
    and colours, computed in float32. Frames of 8 bits and even size that are not scaled get
    FFmpeg's rounding. After DALI's graph, both agree to one grey level
    (docs/explanation/kernels.md). The kernel has not run on a GPU yet. Several threads may use a
    converter.

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
        columns, rows = scaled_size(width, height, self._short_side)
        copies = _copies(samples.dtype, (width, height), (columns, rows))
        first = samples.shape[0] // 3 * 2
        luma_XY = scale_both(samples[:first], Axis(height, rows), Axis(width, columns))
        quarters = int(colours.is_left_sited)
        down, across = Axis(-(-height // 2), rows), Axis(-(-width // 2), columns, quarters)
        if copies:
            down, across = Axis(height // 2, height // 2), Axis(width // 2, width // 2)
        cb_XY = scale_both(samples[first:, 0::2], down, across)
        cr_XY = scale_both(samples[first:, 1::2], down, across)
        planes = (luma_XY, *(_repeated(plane) if copies else plane for plane in (cb_XY, cr_XY)))
        rgb = _mixed(planes, colours, samples.dtype, copies=copies).permute(2, 1, 0)
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
        _check(samples, width, height)
        columns, rows = scaled_size(width, height, self._short_side)
        shape = (columns, rows, 3) if turns % 2 else (rows, columns, 3)
        out_HWC = torch.empty(shape, dtype=torch.uint8, device=samples.device)
        copies = _copies(samples.dtype, (width, height), (columns, rows))
        matrix = _matrix(colours, samples.dtype, copies=copies)
        sizes = (samples.shape[0] // 3 * 2, width, height, columns, rows)
        arguments: tuple[Argument, ...] = (
            samples,
            out_HWC,
            np.int64(samples.stride(0)),
            *map(np.int32, sizes),
            np.int32(colours.is_left_sited),
            np.int32(copies),
            *_places(columns, rows, turns % 4),
            *map(np.float32, colours.zeros(samples.dtype)),
            *map(np.float32, (matrix[0, 0], matrix[0, 2], *matrix[1, 1:], matrix[2, 1])),
        )
        grid = (-(-columns // _BLOCK[0]), -(-rows // _BLOCK[1]), 1)
        name = f"surface_to_rgb<{_ELEMENTS[samples.dtype]}>"
        run(Launch(name, grid, _BLOCK, 0, arguments))
        return out_HWC

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


def _places(columns: int, rows: int, turns: int) -> tuple[np.int64, np.int32, np.int32]:
    """Return where the first pixel goes in a turned picture, and the steps of x and of y."""
    width = rows if turns % 2 else columns  # of the turned picture
    x, y = ((1, width), (-width, 1), (-1, -width), (width, -1))[turns]
    origin = (0, (columns - 1) * width, rows * columns - 1, rows - 1)[turns]
    return np.int64(3 * origin), np.int32(3 * x), np.int32(3 * y)


def _copies(dtype: torch.dtype, size: tuple[int, int], scaled: tuple[int, int]) -> bool:
    """Tell whether FFmpeg's converter uses its code without filters for this width and height."""
    return dtype == torch.uint8 and size == scaled and size[0] % 2 == 0 and size[1] % 2 == 0


def _matrix(colours: SurfaceColours, dtype: torch.dtype, *, copies: bool) -> NDArray[np.float64]:
    matrix = colours.matrix(dtype)
    return np.rint(matrix * _FIXED_POINT) / _FIXED_POINT if copies else matrix


def _mixed(
    planes_XY: tuple[Tensor, ...], colours: SurfaceColours, dtype: torch.dtype, *, copies: bool
) -> Tensor:
    """Return uint8 RGB `3 X Y` of the planes Y, Cb, Cr, which it changes."""
    black, middle = colours.zeros(dtype)
    for plane, zero in zip(planes_XY, (black, middle, middle), strict=True):
        plane.sub_(zero)
    out = torch.empty((3, *planes_XY[0].shape), dtype=torch.uint8, device=planes_XY[0].device)
    for channel, row in enumerate(_matrix(colours, dtype, copies=copies).tolist()):
        mixed = torch.zeros_like(planes_XY[0]) if copies else torch.full_like(planes_XY[0], 0.5)
        for plane, factor in zip(planes_XY, row, strict=True):
            if factor and copies:
                mixed.add_((plane * factor).floor_())
            elif factor:
                mixed.add_(plane, alpha=factor)
        out[channel] = mixed.clamp_(0, 255.5)
    return out


def _repeated(plane_XY: Tensor) -> Tensor:
    """Repeat each value in a square of four pixels."""
    return plane_XY.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)


def _unit(dtype: torch.dtype) -> float:
    """Return how many steps of the samples are one step of 8 bits."""
    return 1.0 if dtype == torch.uint8 else 256.0


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
