"""Normalise preprocessed clips for the network.

Letters: B clips, T frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from configs import ShapeError

if TYPE_CHECKING:
    from model.media.preprocess import PreprocessConfig

__all__ = ["normalise_clips"]


def normalise_clips(
    clips_BTHWC: Tensor, config: PreprocessConfig, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normalise uint8 `B T H W C` to `B C T H W` in channels-last-3d memory.

    The order of pixels in memory does not change.

    Raises:
        ShapeError: the clips are not uint8 `B T H W 3`.
    """
    if clips_BTHWC.dim() != 5 or clips_BTHWC.shape[-1] != 3 or clips_BTHWC.dtype != torch.uint8:
        raise ShapeError(
            f"clips must be uint8 B T H W 3, got {clips_BTHWC.dtype} {tuple(clips_BTHWC.shape)}"
        )
    scale, shift = _statistics(config.mean_rgb, config.std_rgb, clips_BTHWC.device)
    return torch.addcmul(shift, clips_BTHWC.float(), scale).to(dtype).permute(0, 4, 1, 2, 3)


@functools.lru_cache(maxsize=32)
def _statistics(
    mean_rgb: tuple[float, ...], std_rgb: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what every value is multiplied by, and what is added then.

    They are kept on the device, because each copy to it waits for the device. The copy is done
    when it returns, so any stream may use them.
    """
    with torch.inference_mode(False):
        scale = 1.0 / torch.tensor(std_rgb)
        shift = -torch.tensor(mean_rgb) * scale
        return scale.to(device), shift.to(device)
