"""Decoded frames on the GPU (surfaces), and their conversion to RGB."""

from __future__ import annotations

import dataclasses
from typing import Any

from configs import DeviceMemoryError, KernelError, MediaError
from model.device_streams import DeviceStream
from model.media.dali_errors import is_out_of_memory
from model.media.nv12 import SurfaceColours, SurfaceConverter
from model.media.nvdec import Surface

__all__ = ["PictureMaker", "SurfaceFrame"]


@dataclasses.dataclass(eq=False)
class SurfaceFrame:
    """A decoded frame. Its surface is released as soon as it has been converted.

    `turns` quarter turns to the left make it upright.
    """

    surface: Surface | None
    width: int
    height: int
    turns: int
    colours: SurfaceColours
    maker: PictureMaker

    def picture(self) -> Any:
        """Convert the frame to RGB, uint8 `H W 3`; possible only once.

        Returns:
            A tensor on the GPU; on a CPU, an array.

        Raises:
            DeviceMemoryError: the GPU has too little memory.
            MediaError: it was converted before, or the kernel cannot run.
            ShapeError: the surface is too small for the frame.
        """
        if self.surface is None:
            raise MediaError("a frame was to be converted twice")
        surface, self.surface = self.surface, None
        return self.maker.convert(self, surface)


class PictureMaker:
    """Converts the frames of one camera, in the camera's thread.

    Args:
        stream: of the lane in which the surfaces were decoded.
        short_side: pixels to which frames are scaled down.
    """

    def __init__(self, stream: DeviceStream, short_side: int) -> None:
        self._stream = stream
        self._converter = SurfaceConverter(short_side=short_side)

    def convert(self, frame: SurfaceFrame, surface: Surface) -> Any:
        """Convert a surface; waits until the GPU has done it."""
        try:
            with self._stream.shared():
                picture = self._converter(
                    surface.samples,
                    width=frame.width,
                    height=frame.height,
                    colours=frame.colours,
                    turns=frame.turns,
                )
        except KernelError as error:
            raise MediaError(f"the GPU cannot convert a frame: {error}") from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(f"the GPU has no memory for a frame: {error}") from None
        # A tensor carries no event, and whoever takes it uses another stream.
        self._stream.finish()
        return picture if picture.is_cuda else picture.numpy()
