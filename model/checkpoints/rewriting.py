"""Changes that tensors of public packages need beyond other names.

- SlowFast: the slow pathway gets its own place; mmaction2's connections between pathways have no
  bias, and its classifier reads the fast pathway first.
- TRN: the linear layers that end the relation networks become one classifier; see
  `model/heads/relations.py`.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor

from configs import CheckpointError
from model.checkpoints.packages import PackageName
from model.heads import tuples_of_scale

__all__ = ["Named", "rewritten"]


@dataclasses.dataclass(frozen=True)
class Named:
    """A tensor, and the names that its values have in the file."""

    tensor: Tensor
    keys: tuple[str, ...]


def rewritten(tensors: dict[str, Named], package: PackageName, name: str) -> dict[str, Named]:
    """Return the tensors as this project's networks hold them.

    Args:
        tensors: tensors under the names that the package's rules give them.
        package: the package that the file is from.
        name: name of the checkpoint in error messages.

    Raises:
        CheckpointError: layers that belong together are incomplete or do not fit together.
    """
    if any(key.startswith("backbone.fast.") for key in tensors):
        tensors = {_slow_place(key): named for key, named in tensors.items()}
        return _as_in_the_paper(tensors) if package == "mmaction2" else tensors
    if any(key.startswith("relations.") for key in tensors):
        try:
            return _with_one_classifier(tensors)
        except (LookupError, ArithmeticError, ValueError, RuntimeError, TypeError):
            raise CheckpointError(
                f"{name}: its relation networks are incomplete or do not fit together"
            ) from None
    return tensors


def _slow_place(key: str) -> str:
    for part in ("stem.", "stages."):
        if key.startswith(f"backbone.{part}"):
            return key.replace("backbone.", "backbone.slow.", 1)
    return key


def _as_in_the_paper(tensors: dict[str, Named]) -> dict[str, Named]:
    """Complete the biases of mmaction2's connections; put the slow pathway's features first."""
    for key, named in list(tensors.items()):
        is_lateral = key.startswith("backbone.laterals.")
        if is_lateral and key.endswith(".conv.weight") and named.tensor.dim() > 0:
            bias = named.tensor.new_zeros(len(named.tensor))
            tensors.setdefault(key.replace(".weight", ".bias"), Named(bias, ()))
    last = tensors.get("classifier.weight")
    if last is not None and last.tensor.dim() == 2:
        fast = last.tensor.shape[1] // 9  # it has an eighth of the slow pathway's channels
        columns = torch.cat([last.tensor[:, fast:], last.tensor[:, :fast]], dim=1)
        tensors["classifier.weight"] = dataclasses.replace(last, tensor=columns)
    return tensors


def _with_one_classifier(tensors: dict[str, Named]) -> dict[str, Named]:
    kept = {key: value for key, value in tensors.items() if not key.startswith("relations.")}
    for part in ("weight", "bias"):
        kept[f"head.frame.{part}"] = kept.pop(f"classifier.{part}")
    count = sum(key.startswith("relations.") and key.endswith("votes.bias") for key in tensors)
    weights, biases = (
        [tensors[f"relations.{i}.votes.{part}"] for i in range(count)]
        for part in ("weight", "bias")
    )
    for part, i in itertools.product(("weight", "bias"), range(count)):
        kept[f"head.relations.{i}.{part}"] = tensors[f"relations.{i}.hidden.{part}"]
    # The first scale relates all frames, and the last one pairs. In the package, a bias is added
    # once for each tuple.
    features = len(kept["head.frame.bias"].tensor)
    time = kept["head.relations.0.weight"].tensor.shape[1] // features
    times = [tuples_of_scale(time, time - i) for i in range(count)]
    kept["classifier.weight"] = Named(
        torch.cat([named.tensor for named in weights], dim=1),
        tuple(key for named in weights for key in named.keys),
    )
    kept["classifier.bias"] = Named(
        torch.stack([n * named.tensor for n, named in zip(times, biases, strict=True)]).sum(dim=0),
        tuple(key for named in biases for key in named.keys),
    )
    return kept
