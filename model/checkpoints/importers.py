"""Import public checkpoints as networks of this project.

The names and shapes of the tensors determine the package, the backbone, its depth and the number of
classes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from configs import CheckpointError
from model.backbones.table import BackboneName
from model.checkpoints.architecture import config_of
from model.checkpoints.packages import NAMINGS, PackageName, detect_package
from model.checkpoints.rewriting import Named, rewritten
from model.checkpoints.state_dict import read_checkpoint
from model.media.preprocess import PreprocessConfig
from model.network import ActionNetwork, build_model, shapes_of
from model.spec import ModelSpec

__all__ = ["ImportResult", "import_checkpoint", "import_state", "spec_for"]

# Types of a file's numbers for floating-point weights, and for counts.
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """A network loaded from a checkpoint, with a list of the tensors that were used and not used.

    Attributes:
        network: the network, in evaluation mode and float32.
        package: package whose tensor names the file uses.
        used: names of the file's tensors that were loaded into the network.
        missing: names of the network's tensors that the file does not have; these tensors keep
            their initial values.
        left_over: names of the file's tensors that the network does not have.
        inflated: names of the file's 2D weights that were repeated along time and divided by the
            number of repeats.
    """

    network: ActionNetwork
    package: PackageName
    used: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    inflated: tuple[str, ...]

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Names of unused tensors from modules whose other tensors were used."""
        parts = {key.split(".")[0] for key in self.used}
        return tuple(key for key in self.left_over if key.split(".")[0] in parts)


def import_checkpoint(path: str | Path, *, backbone: BackboneName | None = None) -> ImportResult:
    """Read a public checkpoint into a network without CIDC.

    Args:
        path: path of a `.pth`, `.pt`, `.pyth` or `.safetensors` file.
        backbone: backbone to build; None: the backbone of the file. A 2D network in the file
            becomes `tsn`, which computes the same.

    Raises:
        CheckpointError: the file is missing or damaged, loading it could execute code, its package
            is unknown, or its tensors do not fit the network.
    """
    return import_state(read_checkpoint(path), backbone=backbone, name=str(path))


def import_state(
    state: Mapping[str, Tensor], *, backbone: BackboneName | None = None, name: str = "checkpoint"
) -> ImportResult:
    """Do the same as `import_checkpoint` with tensors; error messages call them `name`."""
    package = detect_package(state)
    if package is None:
        raise CheckpointError(
            f"{name}: its names are of none of the packages {', '.join(NAMINGS)};"
            f" first names: {', '.join(list(state)[:3]) or 'none'}"
        )
    naming = NAMINGS[package]
    kept = {
        key: value
        for key, value in state.items()
        if not any(re.match(duplicate, key) for duplicate in naming.duplicates)
    }
    numbers = naming.numbers(kept)
    ours = rewritten(
        {
            target: Named(value, (key,))
            for key, value in kept.items()
            if (target := naming.translate(key, numbers)) is not None
        },
        package,
        name,
    )
    tensors = {key: named.tensor for key, named in ours.items()}
    config = config_of(tensors, package=package, backbone=backbone, name=name)
    # A small file can describe a huge network, so the network is built after its tensors fit.
    expected = shapes_of(config)
    fitted, inflated = _fit(tensors, expected, name)
    network = build_model(config)
    network.load_state_dict(fitted, strict=False)
    used = {key: None for target in fitted for key in ours[target].keys}
    return ImportResult(
        network.eval(),
        package,
        used=tuple(used),
        missing=tuple(
            key for key in expected if key not in fitted and not key.endswith("num_batches_tracked")
        ),
        left_over=tuple(key for key in kept if key not in used),
        inflated=tuple(key for target in inflated for key in ours[target].keys),
    )


def spec_for(
    imported: ImportResult, *, name: str, labels: tuple[str, ...] | None = None, size: int = 224
) -> ModelSpec:
    """Create the description of imported weights, with the normalisation of their package.

    Args:
        imported: the imported weights.
        name: name of the network, reported in events.
        labels: class names in the order of the logits; None: `class 0`, `class 1` and so on.
        size: side of the network's square input crop, in pixels.

    Raises:
        CheckpointError: the number of labels differs from the number of classes, or two labels are
            equal.
    """
    config = imported.network.config
    if labels is None:
        labels = tuple(f"class {number}" for number in range(config.num_classes))
    mean, std = NAMINGS[imported.package].statistics
    try:
        preprocess = PreprocessConfig(
            short_side=round(size * 256 / 224), height=size, width=size, mean_rgb=mean, std_rgb=std
        )
        return ModelSpec(name=name, model=config, labels=labels, preprocess=preprocess)
    except ValidationError as error:
        raise CheckpointError(f"{name}: {error.errors()[0]['msg']}") from None


def _fit(
    ours: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Convert the tensors to the shapes that the network expects.

    2D weights are inflated to 3D (Carreira and Zisserman, CVPR 2017). Return the tensors, and the
    names of the inflated tensors.
    """
    fitted = {}
    inflated = []
    for key, tensor in ours.items():
        if key not in expected:
            continue
        shape = expected[key].shape
        inflates = tensor.dim() == 4 and len(shape) == 5
        if inflates:
            tensor = tensor.unsqueeze(2).expand(-1, -1, shape[2], -1, -1)
            if shape[2] > 1:
                inflated.append(key)
        _check_fit(tensor, expected[key], f"{name}: {key}")
        weight = tensor.to(expected[key].dtype)
        fitted[key] = weight / shape[2] if inflates else weight
    return fitted, inflated


def _check_fit(tensor: Tensor, expected: Tensor, name: str) -> None:
    if tensor.shape != expected.shape:
        raise CheckpointError(
            f"{name} would have shape {tuple(tensor.shape)}, the network has"
            f" {tuple(expected.shape)}; try another backbone"
        )
    if tensor.dtype not in (_FLOATS if expected.is_floating_point() else _INTEGERS):
        raise CheckpointError(f"{name} holds {tensor.dtype}, the network {expected.dtype}")
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{name} holds values that are not finite")
