"""The head of a temporal relation network (TRN).

Zhou, Andonian, Oliva, Torralba: Temporal Relational Reasoning in Videos, ECCV 2018. A small
network reads the features of several frames, in the order of time. The multi-scale head has one
such network for pairs, one for triples, and so on up to all frames, and adds what they say.

In the paper, each network ends in a linear layer of its own, and the logits are added. A sum of
linear layers is one linear layer of all their inputs. So the head returns these inputs, and the
classifier after it holds all those layers.

Letters: B clips, C channels, T time (frames), H and W space, F features of a frame, N tuples, S
frames of a tuple.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

__all__ = ["MAX_RELATION_TIME", "RELATION_HIDDEN", "RelationHead", "tuples_of_scale"]

_FRAME_FEATURES = 256
RELATION_HIDDEN = {"single": 512, "multi": 256}
_TUPLES = 3  # of each scale
MAX_RELATION_TIME = 16  # more frames have too many tuples to list


def tuples_of_scale(time: int, scale: int) -> int:
    """Return how many tuples of `scale` frames are read in one pass over `time` frames."""
    return min(_TUPLES, math.comb(time, scale))


class RelationHead(nn.Module):
    """Relations over ordered tuples of frames, whose maps are pooled in space.

    In training, three tuples of each scale are drawn at random for every batch, as in the paper. In
    evaluation the three are fixed and evenly spread over the list of all tuples, so that the same
    clip always gives the same logits.

    Args:
        channels: number of channels of the map.
        time: T of the map, from 2 to 16.
        multi_scale: whether tuples of 2 to T frames are related; if not, all T frames are.

    Attributes:
        scales: number of frames of the tuples, for each relation network.
        features: number of features.
    """

    def __init__(self, channels: int, time: int, *, multi_scale: bool) -> None:
        super().__init__()
        hidden = RELATION_HIDDEN["multi" if multi_scale else "single"]
        self.scales = tuple(range(time, 1, -1)) if multi_scale else (time,)
        self.frame = nn.Linear(channels, _FRAME_FEATURES)
        self.relations = nn.ModuleList(
            nn.Linear(scale * _FRAME_FEATURES, hidden) for scale in self.scales
        )
        for scale in self.scales:
            every = list(itertools.combinations(range(time), scale))
            count, wanted = len(every), tuples_of_scale(time, scale)
            spread = [every[(2 * i + 1) * count // (2 * wanted)] for i in range(wanted)]
            # Buffers, because a CUDA graph cannot copy indices from the CPU.
            self.register_buffer(f"every_{scale}", torch.tensor(every), persistent=False)
            self.register_buffer(f"spread_{scale}", torch.tensor(spread), persistent=False)
        self.features = hidden * len(self.scales)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B features`, in float32."""
        frames_BTC = x_BCTHW.float().mean(dim=(3, 4)).transpose(1, 2)
        frames_BTF = torch.relu(self.frame(frames_BTC))
        parts = []
        for scale, relation in zip(self.scales, self.relations, strict=True):
            tuples_BNF = frames_BTF[:, self._tuples(scale)].flatten(2)
            parts.append(torch.relu(relation(tuples_BNF)).sum(dim=1))
        return torch.cat(parts, dim=1).float()

    def _tuples(self, scale: int) -> Tensor:
        """Return the tuples `N S` of a scale that this pass reads."""
        spread_NS = self.get_buffer(f"spread_{scale}")
        if not self.training:
            return spread_NS
        every_NS = self.get_buffer(f"every_{scale}")
        drawn = torch.randperm(len(every_NS), device=every_NS.device)[: len(spread_NS)]
        return every_NS[drawn]
