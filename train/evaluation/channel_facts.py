"""Facts about the channels of a network's last maps, at the person who acts and elsewhere.

Letters: C channels, T time or rows, H and W space.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ChannelFacts", "channel_facts", "mean_facts"]

_AT_PERSON = 0.35  # cells with at least this fraction in the person's box are at the person ...
_ELSEWHERE = 0.02  # ... and cells with at most this fraction are elsewhere


@dataclasses.dataclass(frozen=True)
class ChannelFacts:
    """Means over clips.

    Attributes:
        negative: fraction of the map's values that are below 0.
        dead: fraction of channels that are 0 everywhere.
        lower: fraction of channels whose mean is lower at the person than elsewhere.
        change: mean over channels of the distance between both means.
        mean_at_person, mean_elsewhere: mean over channels.
    """

    negative: float
    dead: float
    lower: float
    change: float
    mean_at_person: float
    mean_elsewhere: float


def channel_facts(map_CTHW: Tensor, person_HW: NDArray[np.bool_]) -> ChannelFacts | None:
    """Return the facts of one map; None if no cell is clearly at the person, or none elsewhere."""
    height, width = map_CTHW.shape[2:]
    cells = cv2.resize(person_HW.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    here_HW = torch.from_numpy(cells >= _AT_PERSON)
    there_HW = torch.from_numpy(cells <= _ELSEWHERE)
    if not here_HW.any() or not there_HW.any():
        return None
    here_C = map_CTHW[:, :, here_HW].mean(dim=(1, 2))
    there_C = map_CTHW[:, :, there_HW].mean(dim=(1, 2))
    return ChannelFacts(
        negative=float((map_CTHW < 0).float().mean()),
        dead=float((map_CTHW.abs().amax(dim=(1, 2, 3)) == 0).float().mean()),
        lower=float((here_C < there_C).float().mean()),
        change=float((here_C - there_C).abs().mean()),
        mean_at_person=float(here_C.mean()),
        mean_elsewhere=float(there_C.mean()),
    )


def mean_facts(facts: Sequence[ChannelFacts]) -> ChannelFacts:
    """Return the means over clips, rounded."""
    rows = np.array([dataclasses.astuple(fact) for fact in facts])
    return ChannelFacts(*(round(float(value), 4) for value in rows.mean(axis=0)))
