"""The settings of a training run: data, network, augmentation and schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from configs import ConfigError, StrictModel, check_tree, clean_label, load_config
from model.media.preprocess import PreprocessConfig
from model.mixing import MixingPath
from model.network import ModelConfig
from model.runtime import DeviceChoice, Precision
from train.data.datasets import swap_sides
from train.features.config import FeaturesConfig
from train.optimiser_config import OptimiserConfig
from train.regularisation_config import RegularisationConfig

__all__ = ["DataConfig", "OptimiserConfig", "TrainConfig", "labels_in", "load_training"]

# Manifests clean their labels in the same way, so that both agree.
Label = Annotated[str, AfterValidator(clean_label)]


class DataConfig(StrictModel):
    """Settings of the training data: the videos and their labels, and how clips are read."""

    train: Path = Field(description="manifest of the training videos")
    also: tuple[Path, ...] = Field((), description="further manifests of training videos")
    validation: Path = Field(description="manifest of the validation videos")
    labels_from: Path | None = Field(
        None,
        description=(
            "data.yaml file written by `python -m train manifest`; it replaces labels, flip_labels"
            " and no_flip_labels"
        ),
    )
    labels: tuple[Label, ...] = Field((), description="class names in the order of the logits")
    background: Label | None = Field(None, description="label of videos without an action")
    fps: float = Field(15.0, gt=0, le=120, description="frames per second of a clip")
    cache: Path | None = Field(
        None, description="folder for decoded frames; null: no files are stored"
    )
    cache_in_memory: bool = Field(
        False,
        description=(
            "also keep decoded frames in memory, about 3 MB for a clip of 4 s at 96 pixels"
        ),
    )
    decoder: Literal["auto", "software", "dali"] = Field(
        "auto",
        description=(
            "video decoder: software (PyAV) or dali (on the GPU); auto: dali if there is a GPU"
            " and no cache, otherwise software"
        ),
    )
    decoder_threads: int | None = Field(
        None,
        ge=1,
        le=64,
        description=(
            "number of threads of DALI's decoder; null: one per video decoding engine of the GPU"
            " (7 on an H100), or 2 on a CPU"
        ),
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description=(
            "number of processes that decode in software; 0: the training process decodes; null:"
            " one per core, or 0 if decoded frames are cached"
        ),
    )
    short_side_min: int = Field(256, ge=32, description="minimum random shorter side, in pixels")
    short_side_max: int = Field(320, ge=32, description="maximum random shorter side, in pixels")
    flip: bool = Field(True, description="mirror half of the clips, chosen at random")
    flip_labels: dict[Label, Label] = Field(
        {}, description="labels that mirroring changes, each with its new label"
    )
    no_flip_labels: tuple[Label, ...] = Field(
        (), description="labels whose clips are never mirrored"
    )
    speed_min: float = Field(
        1.0, ge=0.25, le=1, description="minimum random speed of a clip; 1: the video's own speed"
    )
    speed_max: float = Field(1.0, ge=1, le=4, description="maximum random speed of a clip")
    max_bad_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="maximum fraction of unreadable videos; above it, the run stops",
    )

    renamed: ClassVar[Mapping[str, str]] = {"max_bad_share": "max_bad_fraction"}

    @property
    def cached(self) -> bool:
        """Whether decoded frames are kept, on disk or in memory."""
        return self.cache is not None or self.cache_in_memory

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        self._check_labels()
        self._check_mirroring()
        if self.short_side_min > self.short_side_max:
            raise ValueError(
                f"short_side_min ({self.short_side_min}) is above short_side_max"
                f" ({self.short_side_max})"
            )
        if self.background is not None and self.background not in self.labels:
            raise ValueError(f"background {self.background!r} is not one of the labels")
        return self

    def _check_labels(self) -> None:
        described_here = self.labels or self.flip_labels or self.no_flip_labels
        if self.labels_from is not None and described_here:
            raise ValueError(
                "labels_from stands in place of labels, flip_labels and no_flip_labels; set either"
                " labels_from or those settings"
            )
        if self.labels_from is None and len(self.labels) < 2:
            raise ValueError(
                f"labels: at least two are needed, got {list(self.labels)}; list them, or set"
                " labels_from to the data set's data.yaml"
            )

    def _check_mirroring(self) -> None:
        unknown = (set(self.flip_labels) | set(self.flip_labels.values())) - set(self.labels)
        if unknown:
            raise ValueError(f"flip_labels names {sorted(unknown)}, which are not among the labels")
        unknown = set(self.no_flip_labels) - set(self.labels)
        if unknown:
            raise ValueError(
                f"no_flip_labels names {sorted(unknown)}, which are not among the labels"
            )
        handled = {*self.flip_labels, *self.no_flip_labels}
        sided = [
            label for label in self.labels if swap_sides(label) != label and label not in handled
        ]
        if self.flip and sided:
            raise ValueError(
                f"labels {sided} name a side, which mirroring changes: name them in flip_labels or"
                " no_flip_labels, or set flip: false"
            )
        if any(self.flip_labels.get(new) != old for old, new in self.flip_labels.items()):
            raise ValueError(
                "flip_labels must go both ways: if it maps one label to another, it must also map"
                " the second label to the first"
            )


class TrainConfig(StrictModel):
    """The settings of one training run."""

    name: str = Field(
        description="short name of the run, written into the weights file",
        min_length=1,
        max_length=100,
    )
    out: Path = Field(description="folder for checkpoints, log and metrics")
    seed: int = Field(0, ge=0, description="seed of every random choice")
    device: DeviceChoice = Field("auto", description="device used for training")
    precision: Precision = Field("auto", description="number format of convolutions")
    mixing: MixingPath = Field(
        "auto",
        description="CUDA kernels; auto: if they can run; cuda: always; reference: never",
    )
    backbone_from: Path | None = Field(
        None, description="weights file for the backbone's initial weights (paper, section 3.3)"
    )
    weights_from: Path | None = Field(
        None,
        description=(
            "weights file; the network starts from its weights, except for the classifier if the"
            " classes differ"
        ),
    )
    weights_format: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of the weights file that is written"
    )
    activation_checkpointing: bool = Field(
        False,
        description="save memory: compute the backbone's maps again in the backward pass",
    )
    checkpoint_minutes: float = Field(
        10.0,
        ge=0,
        description="minutes between saved states in an epoch; 0: save at every step",
    )
    keep_every: int = Field(
        0,
        ge=0,
        description=(
            "also keep the weights of every epoch divisible by this number, in addition to last"
            " and best; 0: none"
        ),
    )
    tensorboard: bool = Field(
        True, description="write event files for TensorBoard into the run's folder"
    )
    compile: bool = Field(
        False, description="compile the network with torch.compile; needs a C++ compiler on CPUs"
    )
    model: ModelConfig = Field(description="settings of the network")
    preprocess: PreprocessConfig = Field(description="preprocessing of the frames")
    data: DataConfig = Field(description="settings of videos and clips")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="settings of the optimiser")
    features: FeaturesConfig | None = Field(
        None,
        description="train only CIDC and the classifier, on cached maps; null: train everything",
    )
    regularisation: RegularisationConfig = Field(
        RegularisationConfig(), description="settings against overfitting; off by default"
    )

    @model_validator(mode="after")
    def _check_features(self) -> TrainConfig:
        if self.features is not None and self.regularisation != RegularisationConfig():
            raise ValueError(
                "regularisation has no effect with features, which trains on cached maps; remove"
                " one of the two sections"
            )
        return self

    @model_validator(mode="after")
    def _check_label_count(self) -> TrainConfig:
        if self.data.labels_from is None and self.model.num_classes != len(self.data.labels):
            raise ValueError(
                f"model.num_classes is {self.model.num_classes}, but data.labels has"
                f" {len(self.data.labels)} names"
            )
        return self


def load_training(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a training configuration; if `data.labels_from` is set, read the labels from that file.

    Raises:
        ConfigError: the configuration is malformed; or the file in `data.labels_from` is missing or
            malformed, or does not fit the network.
    """
    config = load_config(path, TrainConfig, overrides)
    source = config.data.labels_from
    if source is None:
        return config
    if not source.is_file():
        raise ConfigError(
            f"{path}: data.labels_from names {source}, which is not there; write it with"
            " `python -m train manifest`"
        )
    described = _described(source)
    tree = config.model_dump()
    tree["data"] |= {
        "labels_from": None,
        **described.model_dump(include={"labels", "flip_labels", "no_flip_labels"}),
    }
    return check_tree(tree, TrainConfig, name=f"{path} with {source}")


def labels_in(path: Path) -> tuple[str, ...]:
    """Return the labels in a file that `python -m train manifest` wrote.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    return _described(path).labels


def _described(path: Path) -> _DescribedData:
    return load_config(path, _Described).data


class _DescribedData(StrictModel):
    """The `data` section of the file that `python -m train manifest` writes."""

    train: Path
    validation: Path
    labels: tuple[Label, ...]
    flip_labels: dict[Label, Label] = Field({})
    no_flip_labels: tuple[Label, ...] = ()


class _Described(StrictModel):
    """The file that `python -m train manifest` writes."""

    data: _DescribedData
