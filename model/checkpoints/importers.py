"""Public checkpoints into networks of this project.

What a checkpoint is (package, backbone, depth, classes) is read off its tensors. Nothing in a file
is ever executed: pickles are read with `weights_only`, and a file that needs more is refused.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from configs import CheckpointError
from model.backbones.resnet import BACKBONES, STAGE_BLOCKS, BackboneName
from model.checkpoints.layouts import LAYOUTS, LayoutName, detect_layout
from model.checkpoints.weights import ModelSpec, read_safetensors
from model.media.preprocess import PreprocessConfig
from model.network import ActionNetwork, ModelConfig, build_model

__all__ = ["Imported", "import_checkpoint", "import_state", "read_checkpoint", "spec_for"]

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")
_PREFIXES = ("module.", "model.")


@dataclasses.dataclass(frozen=True)
class Imported:
    """A network with a checkpoint's weights, and what became of every tensor.

    Attributes:
        network: in evaluation mode, float32.
        layout: the package whose names the file uses.
        used: the file's tensors that went into the network.
        missing: tensors of the network that the file did not have; they keep their fresh values.
        left_over: the file's tensors that have no place in the network.
        inflated: the file's 2D weights that were repeated along time, divided by the number of
            repeats.
    """

    network: ActionNetwork
    layout: LayoutName
    used: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    inflated: tuple[str, ...]

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Left-over tensors of parts of the file's network that were used otherwise."""
        parts = {key.split(".")[0] for key in self.used}
        return tuple(key for key in self.left_over if key.split(".")[0] in parts)


def import_checkpoint(path: str | Path, *, backbone: BackboneName | None = None) -> Imported:
    """Read a public checkpoint into a network without CIDC.

    Args:
        path: `.pth`, `.pt`, `.pyth` or `.safetensors`.
        backbone: what to build. None: what the file holds; a 2D net becomes `tsn`, which computes
            what it computed.

    Raises:
        CheckpointError: the file is missing, damaged, would have to execute code, is of no layout
            known here, or does not fit.
    """
    return import_state(read_checkpoint(path), backbone=backbone, name=str(path))


def spec_for(
    imported: Imported, *, name: str, labels: tuple[str, ...] | None = None, size: int = 224
) -> ModelSpec:
    """The description of imported weights: their labels (numbered where none are known) and the
    picture their package trained on.

    Raises:
        CheckpointError: another number of labels than classes, or labels that are not different
            names.
    """
    config = imported.network.config
    if labels is None:
        labels = tuple(f"class {number}" for number in range(config.num_classes))
    mean, std = LAYOUTS[imported.layout].statistics
    try:
        picture = PreprocessConfig(
            short_side=round(size * 256 / 224), height=size, width=size, mean_rgb=mean, std_rgb=std
        )
        return ModelSpec(name=name, model=config, labels=labels, preprocess=picture)
    except ValidationError as error:
        raise CheckpointError(f"{name}: {error.errors()[0]['msg']}") from None


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, without the wrappers that training scripts put around them.

    Raises:
        CheckpointError: as `import_checkpoint`.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}")
    try:
        with warnings.catch_warnings():
            # It warns of unusual pickles; those are refused below.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of plain tensors, and loading it could run code"
            f" ({_first_line(error)}); save its state dict"
        ) from None
    except Exception as error:
        # A damaged pickle can fail in any way there is.
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({_first_line(error)})"
        ) from None
    return _unwrap(content, path)


def import_state(
    state: Mapping[str, Tensor], *, backbone: BackboneName | None = None, name: str = "checkpoint"
) -> Imported:
    """As `import_checkpoint`, from tensors."""
    layout_name = detect_layout(state)
    if layout_name is None:
        raise CheckpointError(
            f"{name}: its names are of none of the layouts {', '.join(LAYOUTS)}; first names:"
            f" {_some(state)}"
        )
    layout = LAYOUTS[layout_name]
    kept = {
        key: value
        for key, value in state.items()
        if not any(re.match(alias, key) for alias in layout.aliases)
    }
    stages = layout.stages(kept)
    translated = {key: layout.translate(key, stages) for key in kept}
    ours = {target: kept[key] for key, target in translated.items() if target is not None}
    config = _describe(ours, layout_name, backbone, name)
    network = build_model(config)
    expected = network.state_dict()
    fitted, inflated = _fit(ours, expected, name)
    network.load_state_dict(expected | fitted)
    origin = {target: key for key, target in translated.items() if target is not None}
    return Imported(
        network.eval(),
        layout_name,
        used=tuple(origin[key] for key in fitted),
        missing=tuple(
            key for key in expected if key not in fitted and not key.endswith("num_batches_tracked")
        ),
        left_over=tuple(
            key for key, target in translated.items() if target is None or target not in fitted
        ),
        inflated=tuple(origin[key] for key in inflated),
    )


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in _WRAPPERS:
        inner = next(
            (
                content[key]
                for key in _WRAPPERS
                if isinstance(content, dict) and isinstance(content.get(key), dict)
            ),
            None,
        )
        content = content if inner is None else inner
    if not isinstance(content, dict) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise CheckpointError(f"{path} holds no state dict (a dictionary of names to tensors)")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    odd = next(
        (
            key
            for key, value in state.items()
            if value.layout != torch.strided or value.is_quantized
        ),
        None,
    )
    if odd is not None:
        raise CheckpointError(
            f"{path}: {odd} is a sparse or quantised tensor; only plain ones can be imported"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _describe(
    ours: Mapping[str, Tensor], layout: LayoutName, wanted: BackboneName | None, name: str
) -> ModelConfig:
    """The network whose weights these are."""
    blocks = [
        len({key.split(".")[3] for key in ours if key.startswith(f"backbone.stages.{stage}.")})
        for stage in range(4)
    ]
    bottleneck = "backbone.stages.0.0.conv3.conv.weight" in ours
    depth = next(
        (
            d
            for d, counts in STAGE_BLOCKS.items()
            if list(counts) == blocks and (d > 18) == bottleneck
        ),
        None,
    )
    stem = ours.get("backbone.stem.conv.weight")
    classifier = ours.get("classifier.weight")
    if (
        depth is None
        or stem is None
        or classifier is None
        or stem.dim() not in (4, 5)
        or classifier.dim() != 2
    ):
        raise CheckpointError(
            f"{name}: no ResNet-18, -50 or -101 with a classifier: {blocks} blocks in its stages"
        )
    own = _backbone_of(ours, stem)
    non_local = any(key.startswith("backbone.non_local.") for key in ours)
    pooling = LAYOUTS[layout].non_local_pooling
    if non_local and pooling is None:
        raise CheckpointError(
            f"{name}: {layout}'s non-local blocks weigh places in a way that those here do not;"
            " import a net without them"
        )
    fields: dict[str, Any] = {
        "backbone": wanted or own,
        "depth": depth,
        "cidc": None,
        "non_local": non_local,
    }
    fields |= {
        "num_classes": classifier.shape[0],
        "width": stem.shape[0],
        "non_local_pooling": pooling or "paper",
    }
    if BACKBONES[fields["backbone"]].entry == "strided":
        fields["entry"] = (
            "sampled" if LAYOUTS[layout].frames_sampled and stem.dim() == 5 else "strided"
        )
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(
            f"{name}: {'.'.join(map(str, first['loc'])) or 'network'}: {first['msg']}, it has"
            f" {first['input']}"
        ) from None


def _backbone_of(ours: Mapping[str, Tensor], stem: Tensor) -> BackboneName:
    if stem.dim() == 4:
        return "tsn"
    if stem.shape[2] > 1:
        return "i3d"
    late = ours.get("backbone.stages.3.0.conv1.conv.weight")
    return "slow_only" if late is not None and late.dim() == 5 and late.shape[2] > 1 else "r2d"


def _fit(
    ours: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors in the shapes the network expects; 2D weights inflated (Carreira and
    Zisserman, CVPR 2017).
    """
    fitted = {}
    inflated = []
    for key, tensor in ours.items():
        if key not in expected:
            continue
        shape = expected[key].shape
        if tensor.dim() == 4 and len(shape) == 5:
            tensor = tensor.unsqueeze(2).expand(-1, -1, shape[2], -1, -1) / shape[2]
            if shape[2] > 1:
                inflated.append(key)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{name}: {key} would have shape {tuple(tensor.shape)}, the network has"
                f" {tuple(shape)}; try another backbone"
            )
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{name}: {key} holds {tensor.dtype}, the network {expected[key].dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name}: {key} holds values that are not finite")
        fitted[key] = tensor.to(expected[key].dtype)
    return fitted, inflated


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["empty"])[0]


def _some(names: Mapping[str, Tensor]) -> str:
    return ", ".join(list(names)[:3]) or "none"
