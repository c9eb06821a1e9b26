"""Class activation: how much each place of a clip speaks for one action.

The classifier is linear and reads averages over all places, so a class's logit is a sum over the
places of the maps. The class activation is the summands; their sum is the logit, without the bias.
(Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.)

Letters: S sub-clips, C channels, T time or rows, H and W space.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import ActionNetwork

__all__ = ["class_activation", "evidence", "has_class_activation", "rows_of_sub_clips"]


def has_class_activation(network: ActionNetwork) -> bool:
    """Return whether class activation is exact: the head averages the maps, and nothing else."""
    return network.head is None


def class_activation(
    network: ActionNetwork, last_CTHW: Tensor, cidc_CTHW: Tensor | None, action: int
) -> NDArray[np.float32]:
    """Return what each place adds to the logit of an action, above the mean of all logits: `S H W`.

    The sum over the result, plus the action's bias above the mean bias, is the action's logit above
    the mean logit. The mean is subtracted because probabilities do not depend on it.

    Args:
        network: a network whose head averages (`has_class_activation`).
        last_CTHW: the backbone's last map of one clip.
        cidc_CTHW: the CIDC network's map of this clip; None for a network without CIDC.
        action: index of the class.
    """
    weight_KC = network.classifier.weight.detach().float()
    weight_C = weight_KC[action] - weight_KC.mean(dim=0)
    places = last_CTHW[0].numel()
    if cidc_CTHW is None or network.cidc is None:
        return _array(_dot(weight_C, last_CTHW) / places)
    fusion = network.cidc.config.fusion
    channels = len(last_CTHW)
    first_C, second_C = weight_C[:channels], weight_C[-channels:]
    scale = 0.5 if fusion == "time" else 1.0
    rows_ST = rows_of_sub_clips(network.cidc.config.direction, last_CTHW.shape[1])
    # What a row adds is divided over the sub-clips, and none of it is lost or counted twice.
    rows_ST = rows_ST / rows_ST.sum(axis=0)
    mixed = np.einsum("st,thw->shw", rows_ST, _array(_dot(second_C, cidc_CTHW)))
    total = scale / places * (_array(_dot(first_C, last_CTHW)) + mixed)
    return cast("NDArray[np.float32]", total.astype(np.float32))


def evidence(activation_SHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a class activation to the range 0 to 1 for drawing.

    0 is the median of the clip, which is what an empty place adds, and everything below it.
    """
    above = np.maximum(activation_SHW - np.median(activation_SHW), 0)
    scaled: NDArray[np.float32] = (above / max(float(above.max()), 1e-12)).astype(np.float32)
    return scaled


def rows_of_sub_clips(direction: str, time: int) -> NDArray[np.float32]:
    """Return weights `S T` that combine the rows of a CIDC map into sub-clips; each row sums to 1.

    A `bi` map has its forward rows first and its backward rows after them. For each sub-clip, half
    of the weight is on the forward rows that use the frames up to the sub-clip's end. The other
    half is on the backward rows that use the frames from the sub-clip's start.
    """
    if direction != "bi":
        return np.eye(time, dtype=np.float32)
    half = time // 2
    weights = np.zeros((time, time), dtype=np.float32)
    for sub_clip in range(time):
        place = sub_clip * (half - 1) / max(time - 1, 1)
        for first, at in ((0, place), (half, half - 1 - place)):
            low = min(int(at), half - 1)
            high = min(low + 1, half - 1)
            weights[sub_clip, first + low] += 0.5 * (1 - (at - low))
            weights[sub_clip, first + high] += 0.5 * (at - low)
    return weights


def _dot(weight_C: Tensor, map_CTHW: Tensor) -> Tensor:
    return torch.einsum("c,cthw->thw", weight_C, map_CTHW.float())


def _array(map_THW: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", map_THW.float().cpu().numpy())
