"""The other temporal heads in the paper's table 5a: LSTM and self-attention.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.conv import ConvNorm

__all__ = ["LSTMHead", "SelfAttentionHead"]


class LSTMHead(nn.Module):
    """Two LSTM layers over the spatially pooled map.

    The features are the mean of the map and the output of the last time step.

    Args:
        channels: number of channels of the map.
        hidden: number of units of each layer (512 in the paper).
    """

    def __init__(self, channels: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, num_layers=2, batch_first=True)
        self.features = channels + hidden

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C+hidden`, in float32."""
        steps_BTC = x_BCTHW.float().mean(dim=(3, 4)).transpose(1, 2)
        outputs, _ = self.lstm(steps_BTC)
        return torch.cat([steps_BTC.mean(dim=1), outputs[:, -1].float()], dim=1)


class SelfAttentionHead(nn.Module):
    """Layers of multi-head self-attention over all positions of the map.

    The layers follow Vaswani et al. (Attention Is All You Need); as in the paper, their linear
    layers are 1x1x1 convolutions. They have no position encoding, so, like the non-local block,
    they do not depend on the order of positions. Map and result are concatenated along time; the
    features are their mean.

    Args:
        channels: number of channels of the map.
        layers: number of layers (2 in the paper).
        heads: number of attention heads of each layer.
    """

    def __init__(self, channels: int, *, layers: int = 2, heads: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_SelfAttention(channels, heads) for _ in range(layers))
        self.features = channels

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C`, in float32."""
        y = x_BCTHW
        for layer in self.layers:
            y = layer(y)
        return torch.cat([x_BCTHW, y], dim=2).float().mean(dim=(2, 3, 4))


class _SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            ConvNorm(channels, channels, norm=False) for _ in range(4)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        batch, channels, time, height, width = x_BCTHW.shape
        query, key, value = (
            self._split(project(x_BCTHW, relu=False))
            for project in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        places = mixed.transpose(1, 2).reshape(batch, time, height, width, channels)
        y = self.out(places.permute(0, 4, 1, 2, 3), relu=False) + x_BCTHW
        normed: Tensor = self.norm(y.permute(0, 2, 3, 4, 1).to(self.norm.weight.dtype))
        return normed.permute(0, 4, 1, 2, 3).to(x_BCTHW.dtype)

    def _split(self, x_BCTHW: Tensor) -> Tensor:
        """Reshape `B C T H W` to `B heads T*H*W C/heads`."""
        places_BNC = x_BCTHW.permute(0, 2, 3, 4, 1).flatten(1, 3)
        return places_BNC.reshape(*places_BNC.shape[:2], self.heads, -1).transpose(1, 2)
