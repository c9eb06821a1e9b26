"""Settings of a training run: data, network, augmentation and schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from configs import ConfigError, StrictModel, check_tree, load_config
from model.media.preprocess import PreprocessConfig
from model.mixing import MixingPath
from model.network import ModelConfig
from model.runtime import DeviceChoice, Precision
from train.data.datasets import swap_sides

__all__ = ["DataConfig", "OptimiserConfig", "TrainConfig", "load_training"]


class DataConfig(StrictModel):
    """Where the videos are and how clips are cut from them."""

    train: Path = Field(description="manifest of the training videos")
    also: tuple[Path, ...] = Field((), description="further manifests of training videos")
    validation: Path = Field(description="manifest of the validation videos")
    labels_from: Path | None = Field(
        None,
        description=(
            "data.yaml of `python -m train manifest`, in place of labels, flip_labels and"
            " no_flip_labels"
        ),
    )
    labels: tuple[str, ...] = Field((), description="class names in the order of the logits")
    background: str | None = Field(None, description="the label that stands for no action")
    fps: float = Field(15.0, gt=0, le=120, description="frames per second of a clip")
    cache: Path | None = Field(
        None, description="folder for decoded frames; null decodes again every time"
    )
    cache_in_memory: bool = Field(
        False,
        description="also keep decoded frames in memory, about 3 MB a clip of 4 s at 96 pixels",
    )
    decoder: Literal["auto", "software", "dali"] = Field(
        "auto",
        description=(
            "what decodes: software (PyAV), or dali (on the GPU); auto: dali where there is a GPU"
            " and no cache"
        ),
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description=(
            "processes that decode in software; 0 for none, null: one per core, none with a cache"
        ),
    )
    short_side_min: int = Field(256, ge=32, description="smallest random shorter side, in pixels")
    short_side_max: int = Field(320, ge=32, description="largest random shorter side, in pixels")
    flip: bool = Field(True, description="mirror half of the clips")
    flip_labels: dict[str, str] = Field(
        {}, description="labels that mirroring changes, and what they become"
    )
    no_flip_labels: tuple[str, ...] = Field((), description="labels whose clips are never mirrored")
    max_bad_fraction: float = Field(
        0.05, ge=0, le=1, description="stop if more than this fraction of the videos is unreadable"
    )

    renamed: ClassVar[Mapping[str, str]] = {"max_bad_share": "max_bad_fraction"}

    @property
    def cached(self) -> bool:
        """Whether decoded frames are kept."""
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
                "labels_from stands in place of labels, flip_labels and no_flip_labels; give it or"
                " them"
            )
        if self.labels_from is None and len(self.labels) < 2:
            raise ValueError(
                f"labels: at least two are needed, got {list(self.labels)}; or name the data set's"
                " data.yaml in labels_from"
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
            raise ValueError("flip_labels must go both ways: mirroring twice gives the label back")


class OptimiserConfig(StrictModel):
    """Stochastic gradient descent as in the paper, by default."""

    kind: Literal["sgd", "adamw"] = Field(
        "sgd", description="sgd as in the paper, or adamw, which leaves plateaus sooner"
    )
    epochs: int = Field(100, ge=1, description="passes over the training videos")
    batch: int = Field(32, ge=2, description="clips per step")
    learning_rate: float = Field(0.01, gt=0, description="at the start, after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd)")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty on all weights")
    milestones: tuple[float, ...] = Field(
        (0.4, 0.8), description="fractions of the run after which the rate drops to a tenth"
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs over which the rate rises linearly from zero"
    )
    clip_gradient: float = Field(0.0, ge=0, description="largest gradient norm; 0 for no limit")
    accumulate: int = Field(
        1, ge=1, description="parts that a batch is computed in, one after the other; saves memory"
    )
    base_batch: int | None = Field(
        None,
        ge=1,
        description="batch for which learning_rate is meant; null: learning_rate is not scaled",
    )

    @model_validator(mode="after")
    def _check(self) -> OptimiserConfig:
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate ({self.accumulate}) is above batch ({self.batch})")
        return self


class TrainConfig(StrictModel):
    """One training run."""

    name: str = Field(
        description="short name, written into the weights", min_length=1, max_length=100
    )
    out: Path = Field(description="folder for checkpoints, log and metrics")
    seed: int = Field(0, ge=0, description="seed of every random choice")
    device: DeviceChoice = Field("auto", description="where to train")
    precision: Precision = Field("auto", description="number format of convolutions")
    mixing: MixingPath = Field(
        "auto", description="CUDA kernels: auto: where they can run; cuda: insist; reference: never"
    )
    backbone_from: Path | None = Field(
        None, description="weights file whose backbone this run starts from (paper, section 3.3)"
    )
    weights_from: Path | None = Field(
        None,
        description="weights file this run starts from; with other classes, the classifier is new",
    )
    weights_format: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of the weights file that is written"
    )
    activation_checkpointing: bool = Field(
        False,
        description="compute the backbone's maps again in the backward pass, which saves memory",
    )
    checkpoint_minutes: float = Field(
        10.0, ge=0, description="save the state this often within an epoch; 0 for every step"
    )
    keep_every: int = Field(
        0,
        ge=0,
        description=(
            "also keep the weights of every epoch divisible by this, beside last and best; 0: none"
        ),
    )
    tensorboard: bool = Field(
        True, description="write event files for TensorBoard into the run's folder"
    )
    compile: bool = Field(
        False, description="torch.compile the network; needs a C++ compiler on CPUs"
    )
    model: ModelConfig = Field(description="the network")
    preprocess: PreprocessConfig = Field(description="the frames the network sees")
    data: DataConfig = Field(description="videos and clips")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="schedule")

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.data.labels_from is None and self.model.num_classes != len(self.data.labels):
            raise ValueError(
                f"model.num_classes is {self.model.num_classes}, but data.labels has"
                f" {len(self.data.labels)} names"
            )
        return self


def load_training(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a training configuration, and its labels from `data.labels_from` if it names a file.

    Raises:
        ConfigError: it is malformed, or the data set's description is missing, malformed or has
            other labels.
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
    described = load_config(source, _Described).data
    tree = config.model_dump()
    tree["data"] |= {
        "labels_from": None,
        **described.model_dump(include={"labels", "flip_labels", "no_flip_labels"}),
    }
    return check_tree(tree, TrainConfig, name=f"{path} with {source}")


class _DescribedData(StrictModel):
    """The section that `python -m train manifest` writes."""

    train: Path
    validation: Path
    labels: tuple[str, ...]
    flip_labels: dict[str, str] = Field({})
    no_flip_labels: tuple[str, ...] = ()


class _Described(StrictModel):
    """The file that `python -m train manifest` writes."""

    data: _DescribedData
