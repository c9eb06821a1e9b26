"""Maps and weights on which kernels often fail: sizes of 1, primes, odd memory layouts.

Tests of the kernel on the CPU, tests on a GPU and the benchmark take their inputs here.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

__all__ = ["CASES", "TOLERANCES", "Case", "agree", "reference"]

# Largest allowed |out - reference| / |reference|, in 2-norms, with the reference in float64: a few
# rounding errors of the dtype.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclasses.dataclass(frozen=True)
class Case:
    """A map `B C T H W`, weights `D C T' T`, and how the map lies in memory."""

    batch: int
    channels: int
    times: int
    rows: int
    directions: int
    height: int
    width: int
    memory: str = "planar"

    def __str__(self) -> str:
        sizes = f"B{self.batch}C{self.channels}T{self.times}R{self.rows}D{self.directions}"
        return f"{sizes}H{self.height}W{self.width}-{self.memory}"

    def map(self, dtype: torch.dtype, device: str = "cpu", *, seed: int = 0) -> Tensor:
        """A random map, the same values on every device."""
        shape = (self.batch, self.channels, self.times, self.height, self.width)
        return self._lay(shape, dtype, device, seed)

    def gradient(self, dtype: torch.dtype, device: str = "cpu", *, seed: int = 1) -> Tensor:
        """A random gradient of the result, in the map's memory layout."""
        shape = (self.batch, self.channels, self.directions * self.rows, self.height, self.width)
        return self._lay(shape, dtype, device, seed)

    def given(self, dtype: torch.dtype, device: str = "cpu", *, seed: int = 2) -> Tensor:
        """Random weights or logits: float64 for float64, else float32."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return _random((self.directions, self.channels, self.rows, self.times), seed).to(
            device, wide
        )

    def _lay(self, shape: tuple[int, ...], dtype: torch.dtype, device: str, seed: int) -> Tensor:
        last = self.memory.startswith("last")
        values = _random(shape, seed).to(device, dtype)
        form = torch.channels_last_3d if last else torch.contiguous_format
        values = values.contiguous(memory_format=form)
        kind = self.memory.removeprefix("last").removeprefix("planar").removeprefix(" ")
        if kind == "offset":  # addresses that are not multiples of 16 bytes
            flat = torch.empty(values.numel() + 1, dtype=dtype, device=device)[1:]
            return flat.as_strided(values.shape, values.stride(), flat.storage_offset()).copy_(
                values
            )
        if kind == "sliced":  # a part of a larger map, along batch, channels and time
            large = torch.empty(
                [2 * shape[0], shape[1] + 3, shape[2] + 2, *shape[3:]], dtype=dtype, device=device
            )
            return large.contiguous(memory_format=form)[::2, 2:-1, 1:-1].copy_(values)
        if kind == "strided":  # every other pixel
            large = torch.empty([*shape[:4], 2 * shape[4]], dtype=dtype, device=device)
            return large.contiguous(memory_format=form)[..., ::2].copy_(values)
        if kind == "expanded":  # one clip seen as many
            return values[:1].expand(shape)
        return values


CASES = (
    Case(1, 1, 1, 1, 1, 1, 1),
    Case(1, 1, 1, 1, 2, 1, 1, "last"),
    Case(2, 16, 4, 2, 2, 7, 7),
    Case(2, 16, 4, 2, 2, 7, 7, "last"),
    Case(3, 264, 4, 2, 2, 3, 3, "last"),
    Case(2, 40, 4, 2, 2, 14, 14),
    Case(1, 7, 3, 5, 2, 1, 13),
    Case(1, 13, 3, 5, 2, 11, 1, "last"),
    Case(2, 31, 5, 3, 1, 3, 3),
    Case(2, 33, 5, 3, 1, 3, 3, "last"),
    Case(3, 24, 8, 8, 2, 2, 4),
    Case(3, 24, 8, 8, 2, 2, 4, "last"),
    Case(1, 8, 16, 16, 1, 2, 8),
    Case(1, 12, 15, 7, 2, 3, 5, "last"),
    Case(1, 5, 17, 9, 2, 3, 1),
    Case(1, 6, 32, 64, 2, 2, 3),
    Case(1, 6, 32, 64, 2, 2, 2, "last"),
    Case(2, 65, 31, 33, 1, 1, 3, "last"),
    Case(2, 16, 4, 1, 2, 4, 4, "planar offset"),
    Case(2, 16, 4, 4, 1, 4, 4, "last offset"),
    Case(2, 13, 4, 2, 2, 4, 4, "planar sliced"),
    Case(2, 13, 4, 2, 2, 4, 4, "last sliced"),
    Case(2, 8, 4, 2, 2, 2, 4, "planar strided"),
    Case(2, 8, 4, 2, 2, 2, 4, "last strided"),
    Case(3, 8, 4, 2, 2, 4, 2, "planar expanded"),
)


def reference(
    case: Case, dtype: torch.dtype, mapping: str, masked: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Result and both gradients in float64, from loops over the definition, and autograd.

    It shares no code with the operator.
    """
    x = case.map(dtype).double()
    given = case.given(dtype).double()
    x = x.clone().requires_grad_()
    given = given.requires_grad_()
    rows = []
    for direction in range(case.directions):
        for row in range(case.rows):
            seen = (
                case.times
                if not masked or case.rows == 1
                else row * (case.times - 1) // (case.rows - 1) + 1
            )
            weights = given[direction, :, row, :seen]
            if mapping != "plain":
                weights = torch.softmax(weights, dim=-1)
                low = weights.amin(-1, keepdim=True)
                high = weights.amax(-1, keepdim=True)
                if mapping == "affine":
                    weights = 2 * weights - 1
                elif seen == 1:
                    weights = 1 + 0 * weights  # keeps it in autograd's graph
                else:
                    weights = 2 * (weights - low) / (high - low) - 1
            read = x.flip(2) if direction else x
            rows.append((read[:, :, :seen] * weights[None, :, :, None, None]).sum(2))
    out = torch.stack(rows, dim=2)
    x_grad, given_grad = torch.autograd.grad(out, (x, given), case.gradient(dtype).double())
    return out.detach(), x_grad, given_grad


def agree(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether every value was written, and the error is within the dtype's tolerance."""
    found = found.detach().cpu().double()
    if found.shape != expected.shape or not torch.isfinite(found).all():
        return False
    scale = max(float(expected.norm()), 1e-30)
    return float((found - expected).norm()) <= TOLERANCES[dtype] * scale + 1e-30


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
