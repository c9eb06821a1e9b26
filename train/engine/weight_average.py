"""A moving average of the weights during training, which generalises better than the last ones."""

from __future__ import annotations

import copy

import torch

from model.network import ActionNetwork

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps an exponential moving average of a network's weights and statistics.

    At the start of a run the decay is lower, so that the first weights are soon forgotten.

    Args:
        network: network whose average is kept.
        decay: decay per step, below 1; 0 keeps no average.

    Attributes:
        network: network with the averaged weights; without an average, the network itself.
    """

    def __init__(self, network: ActionNetwork, decay: float) -> None:
        self.network = network
        self._decay = decay
        if decay:
            self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: ActionNetwork, *, step: int) -> None:
        """Move the average towards the network's weights.

        Args:
            step: number of steps trained so far, from 1.
        """
        if not self._decay:
            return
        amount = 1 - min(self._decay, step / (step + 9))
        theirs = network.state_dict()
        for name, mine in self.network.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], amount)
            else:
                mine.copy_(theirs[name])
