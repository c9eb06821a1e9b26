"""The head of the fine-grained network: a bank of discriminative filters.

Martinez, Modolo, Xiong, Tighe: Action Recognition with Spatial-Temporal Discriminative Filter
Banks, ICCV 2019. The logits are the sum of three: those of the average of the map; those of the
filters' strongest responses, wherever they are in the clip; and for each class, the mean response
of the filters that belong to it.

The paper also reads the filters from a second copy of the last stage at a higher resolution, and
trains the three outputs with a loss each. Both are left out: the filters read the same map as the
average, and one loss trains the sum.

Letters: B clips, C channels, T time, H and W space, K classes, N filters of each class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbones.conv import ConvNorm

__all__ = ["FilterBankHead"]


class FilterBankHead(nn.Module):
    """The average of the map, and the strongest response of each filter.

    Args:
        channels: number of channels of the map.
        classes: number of classes.
        filters: number of filters of each class.
    """

    def __init__(self, channels: int, classes: int, *, filters: int = 5) -> None:
        super().__init__()
        self.channels = channels
        self.classes = classes
        self.filters = filters
        self.bank = ConvNorm(channels, classes * filters, norm=False)
        self.features = channels + classes * filters

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C+K*N`, in float32."""
        responses = self.bank(x_BCTHW, relu=False)
        strongest = responses.amax(dim=(2, 3, 4)).float()
        return torch.cat([x_BCTHW.float().mean(dim=(2, 3, 4)), strongest], dim=1)

    def votes(self, features: Tensor) -> Tensor:
        """Return the logits `B K` that the classes' own filters add, for the head's features."""
        responses = features[:, self.channels :]
        # `len` would fix the size of the batch in an exported graph.
        return responses.reshape(-1, self.classes, self.filters).mean(dim=2)
