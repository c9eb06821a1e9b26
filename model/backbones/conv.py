"""Convolution, batch norm, addition and ReLU as one module, and its faster form for inference.

Networks are built and trained with `ConvNorm`. For inference, `fold_network` replaces each
`ConvNorm` by a `FoldedConv`, whose weights include the batch norm. On a CPU, oneDNN's convolution
then also computes the addition and the ReLU.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import functools
import logging
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "ConvNorm",
    "FoldedConv",
    "Size3",
    "as_convolution",
    "as_matrix_product",
    "fold_network",
    "fused_convolutions_work",
    "same_padding",
]

Size3 = tuple[int, int, int]
_log = logging.getLogger(__name__)


def same_padding(kernel: Size3) -> Size3:
    """Return the padding that makes output and input equally large, for odd kernels at stride 1."""
    return kernel[0] // 2, kernel[1] // 2, kernel[2] // 2


class ConvNorm(nn.Module):
    """`relu(norm(conv(x)) + add)`.

    Args:
        channels_in: number of input channels.
        channels: number of output channels.
        kernel: odd kernel sizes along T, H, W; the input is padded, so stride 1 keeps its size.
        stride: strides along T, H, W.
        norm: whether a batch norm follows the convolution.
        bias: whether the convolution has a bias; without batch norm it always has one.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: Size3 = (1, 1, 1),
        *,
        stride: Size3 = (1, 1, 1),
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            channels_in, channels, kernel, stride, same_padding(kernel), bias=bias or not norm
        )
        self.norm = nn.BatchNorm3d(channels) if norm else None
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCTHW: Tensor, *, add: Tensor | None = None, relu: bool = True) -> Tensor:
        """Map `B C T H W` to `B C' T' H' W'`; the contents of `add` may be overwritten."""
        y: Tensor = self.conv(x_BCTHW)
        if self.norm is not None:
            y = self.norm(y)
        # These run in place: the gradients of convolution and norm do not need their outputs.
        if add is not None:
            y = y.add_(add)
        return y.relu_() if relu else y

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias, in float32, of one convolution that includes the batch norm."""
        weight = self.conv.weight.detach().double()
        shift = weight.new_zeros(weight.shape[0])
        if self.conv.bias is not None:
            shift = self.conv.bias.detach().double()
        if self.norm is not None:
            mean = cast("Tensor", self.norm.running_mean).double()
            var = cast("Tensor", self.norm.running_var).double()
            scale = self.norm.weight.detach().double() / torch.sqrt(var + self.norm.eps)
            weight = weight * scale.view(-1, 1, 1, 1, 1)
            shift = (shift - mean) * scale + self.norm.bias.detach().double()
        return weight.float(), shift.float()

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return an equivalent module for inference that computes in `dtype`."""
        weight, bias = self.folded_weights()
        stride = cast("Size3", self.conv.stride)
        padding = cast("Size3", self.conv.padding)
        return FoldedConv(weight.to(dtype), bias.to(dtype), stride=stride, padding=padding)


@runtime_checkable
class Foldable(Protocol):
    """A module that has a faster form for inference."""

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return an equivalent module for inference that computes in `dtype`."""
        ...


def fold_network(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replace every foldable module of the network by its form for inference, in place.

    The replaced modules compute in `dtype`; the other modules keep their data type. Afterwards the
    network can no longer be trained or saved.

    Raises:
        ValueError: the network is in training mode.
    """
    if network.training:
        raise ValueError("a network is folded for inference only: call network.eval() first")
    for name, child in network.named_children():
        if isinstance(child, Foldable):
            setattr(network, name, child.folded(dtype).eval())
        else:
            fold_network(child, dtype)
    return network


class FoldedConv(nn.Module):
    """A convolution, with the addition and ReLU that follow it, in one operator.

    The number of dimensions of the weight decides whether it is 2D or 3D. On a CPU, a 1x1x1
    convolution runs as a matrix product over places. In measurements this was 10 to 30 % faster
    than oneDNN's convolution, unless input and output have equally many channels. The choice
    depends only on shapes: a choice by timing could change from run to run, and so could rounding.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last_3d if weight.dim() == 5 else torch.channels_last
        self.register_buffer("weight", weight.contiguous(memory_format=self.memory_format))
        self.register_buffer("bias", bias)
        self.stride = stride
        self.padding = padding
        self.dilation = (1,) * len(stride)
        pointwise = weight.dim() == 5 and weight[0, 0].numel() == 1 and stride == (1, 1, 1)
        self.as_product = pointwise and weight.shape[0] != weight.shape[1]
        # The key is (whether an addition follows, whether a ReLU follows).
        self._fused: dict[tuple[bool, bool], _FusedConv] = {}

    def forward(self, x: Tensor, *, add: Tensor | None = None, relu: bool = True) -> Tensor:
        """Compute the same as `ConvNorm.forward`; the contents of `add` are overwritten."""
        # Traces are for export, and other runtimes support only standard operators.
        is_traced = torch.compiler.is_compiling()
        if x.device.type == "cpu" and not is_traced and fused_convolutions_work():
            x = x.contiguous(memory_format=self.memory_format)
            kind = (add is not None, relu)
            if kind not in self._fused:
                self._fused[kind] = self._pick(x, add, relu)
            return self._fused[kind](x, add, relu)
        weight = cast("Tensor", self.weight)
        bias = cast("Tensor", self.bias)
        convolve = functional.conv3d if weight.dim() == 5 else functional.conv2d
        y = convolve(x, weight, bias, self.stride, self.padding)
        if add is not None:
            y = y.add_(add)
        return y.relu_() if relu else y

    @property
    def is_fused(self) -> bool:
        """Whether this convolution has used one of oneDNN's fused operators."""
        return bool(self._fused)

    def _pick(self, x: Tensor, add: Tensor | None, relu: bool) -> _FusedConv:
        # With addition and ReLU, a matrix product would need a second pass over its result.
        if self.as_product and (add is None or not relu):
            return as_matrix_product(self, x)
        return as_convolution(self, x)


class _FusedConv(Protocol):
    def __call__(self, x: Tensor, add: Tensor | None, relu: bool) -> Tensor: ...


# Both functions reorder the weights once, into the order that oneDNN needs for the shape of the
# first input. That order also works for other batch sizes.


def as_convolution(conv: FoldedConv, x: Tensor) -> _FusedConv:
    """Return a function that runs a folded convolution in oneDNN, for inputs shaped like `x`."""
    ops = torch.ops.mkldnn
    memory_format = conv.memory_format
    packed = ops._reorder_convolution_weight(
        conv.weight, conv.padding, conv.stride, conv.dilation, 1, list(x.shape)
    )
    rest = (packed, conv.bias, conv.padding, conv.stride, conv.dilation, 1)

    def run(x: Tensor, add: Tensor | None, relu: bool) -> Tensor:
        if add is None:
            return cast(
                "Tensor", ops._convolution_pointwise(x, *rest, "relu" if relu else "none", [], "")
            )
        add = add.contiguous(memory_format=memory_format)
        return cast(
            "Tensor",
            ops._convolution_pointwise_.binary(
                add, x, *rest, "add", 1.0, "relu" if relu else None, [], ""
            ),
        )

    return run


def as_matrix_product(conv: FoldedConv, x: Tensor) -> _FusedConv:
    """Return a function that runs a folded 1x1x1 convolution as a matrix product.

    The function accepts inputs shaped like `x`.
    """
    ops = torch.ops.mkldnn
    bias = conv.bias
    packed = ops._reorder_linear_weight(
        cast("Tensor", conv.weight).flatten(1).contiguous(), x.numel() // x.shape[1]
    )

    def run(x: Tensor, add: Tensor | None, relu: bool) -> Tensor:
        places = x.permute(0, 2, 3, 4, 1)
        if add is None:
            y = ops._linear_pointwise(places, packed, bias, "relu" if relu else "none", [], "")
        else:
            y = ops._linear_pointwise.binary(
                places, add.permute(0, 2, 3, 4, 1), packed, bias, "add"
            )
        return cast("Tensor", y.permute(0, 4, 1, 2, 3))

    return run


@functools.cache
def fused_convolutions_work() -> bool:
    """Check that this PyTorch build has oneDNN's fused convolutions and that they are correct."""
    with torch.autocast("cpu", enabled=False), torch.device("cpu"), torch.no_grad():
        working = _fused_convolutions_are_right()
    if not working:
        _log.warning(
            "this build of PyTorch has no working fused convolutions of oneDNN; plain ones run"
            " instead, two to three times as slowly; use the PyTorch version in constraints.txt"
        )
    return working


def _fused_convolutions_are_right() -> bool:
    x = torch.linspace(-1, 1, 2 * 8 * 2 * 5 * 5).view(2, 8, 2, 5, 5)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight = torch.linspace(1, -1, 8 * 8 * 9).view(8, 8, 1, 3, 3)
    weight = weight.contiguous(memory_format=torch.channels_last_3d)
    wanted = torch.relu(functional.conv3d(x, weight, torch.ones(8), padding=(0, 1, 1)) + x)
    try:
        conv = FoldedConv(weight, torch.ones(8), stride=(1, 1, 1), padding=(0, 1, 1))
        got = as_convolution(conv, x)(x, x.clone(), True)
    except (AttributeError, RuntimeError, NotImplementedError):
        # These operators are not part of the public API; another PyTorch release may lack them.
        return False
    return torch.allclose(got, wanted, atol=1e-4)
