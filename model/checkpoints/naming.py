"""Translate the tensor names of public packages into the names of this project.

There is one table of rules per package. The pattern of a rule matches the start of a name; the rest
of the name (`weight`, `running_mean`, ...) is kept. `{s}` is the number of a stage (0 for stage 2),
`{b}` the number of a block, and `{k}` the number of a convolution in the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from model.media.preprocess import MEAN_RGB, STD_RGB

__all__ = ["NAMINGS", "Naming", "PackageName", "detect_package"]

PackageName = Literal["torchvision", "pytorchvideo", "pyslowfast", "mmaction2", "gluoncv"]

Statistics = tuple[float, float, float]
# Facebook's video models use a mean of 0.45 and a standard deviation of 0.225 in every channel.
_SLOWFAST_STATISTICS = ((114.75, 114.75, 114.75), (57.375, 57.375, 57.375))
_CONV = {"a": "1", "b": "2", "c": "3"}
_STAGE = r"(?P<s>[0-9]{1,3})"
_BLOCK = r"(?P<b>[0-9]{1,3})"


@dataclass(frozen=True)
class Naming:
    """The tensor names of one package, and the settings with which it trains networks.

    Attributes:
        signature: a tensor name that is in every file of this package and in no other files.
        rules: pairs of a pattern for the package's names and the name in this project; the first
            rule that matches is used.
        duplicates: patterns of tensor names whose tensors are also in the file under another name.
        frames_sampled: whether r2d and i3d read only every fourth frame; if not, they read all
            frames and use strides.
        non_local_pooling: where non-local blocks pool; None if they differ from the blocks of this
            project.
        statistics: means and standard deviations of the channels, in grey levels, used to
            normalise frames in training.
    """

    signature: str
    rules: tuple[tuple[str, str], ...]
    duplicates: tuple[str, ...] = ()
    frames_sampled: bool = True
    non_local_pooling: Literal["before", "none"] | None = None
    statistics: tuple[Statistics, Statistics] = (MEAN_RGB, STD_RGB)
    _compiled: list[tuple[re.Pattern[str], str]] = field(
        default_factory=list, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._compiled.extend((re.compile(pattern), target) for pattern, target in self.rules)

    def stages(self, names: Iterable[str]) -> dict[str, int]:
        """Map the package's number of each stage to this project's number (0 for stage 2)."""
        matches = (self._match(name)[0] for name in names)
        found = {match["s"] for match in matches if match and "s" in match.groupdict()}
        return {number: index for index, number in enumerate(sorted(found, key=int))}

    def translate(self, name: str, stages: dict[str, int]) -> str | None:
        """Return this project's name for a tensor of the package, or None if no rule matches.

        Args:
            name: name of the tensor in the package.
            stages: result of the method `stages`.
        """
        match, target = self._match(name)
        if match is None:
            return None
        groups = match.groupdict()
        place = {
            "s": stages.get(groups.get("s", ""), 0),
            "b": groups.get("b", ""),
            "k": _CONV.get(groups.get("k", ""), groups.get("k", "")),
        }
        return target.format(**place) + name[match.end() :]

    def _match(self, name: str) -> tuple[re.Match[str] | None, str]:
        for pattern, target in self._compiled:
            if match := pattern.match(name):
                return match, target
        return None, ""


def _non_local(names: dict[str, str], prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (prefix + theirs + r"\.", "backbone.non_local.{s}_{b}." + ours + ".")
        for theirs, ours in names.items()
    )


_TORCHVISION_RULES = (
    (r"conv1\.", "backbone.stem.conv."),
    (r"bn1\.", "backbone.stem.norm."),
    (rf"layer{_STAGE}\.{_BLOCK}\.conv(?P<k>\d)\.", "backbone.stages.{s}.{b}.conv{k}.conv."),
    (rf"layer{_STAGE}\.{_BLOCK}\.bn(?P<k>\d)\.", "backbone.stages.{s}.{b}.conv{k}.norm."),
    (rf"layer{_STAGE}\.{_BLOCK}\.downsample\.0\.", "backbone.stages.{s}.{b}.shortcut.conv."),
    (rf"layer{_STAGE}\.{_BLOCK}\.downsample\.1\.", "backbone.stages.{s}.{b}.shortcut.norm."),
    (r"fc\.", "classifier."),
)

NAMINGS: dict[PackageName, Naming] = {
    # timm, and SlowOnly and R2D of GluonCV, use the same names.
    "torchvision": Naming("layer1.0.conv1.weight", _TORCHVISION_RULES),
    "pytorchvideo": Naming(
        "blocks.0.conv.weight",
        (
            (r"blocks\.0\.conv\.", "backbone.stem.conv."),
            (r"blocks\.0\.norm\.", "backbone.stem.norm."),
            (
                rf"blocks\.{_STAGE}\.res_blocks\.{_BLOCK}\.branch2\.conv_(?P<k>[abc])\.",
                "backbone.stages.{s}.{b}.conv{k}.conv.",
            ),
            (
                rf"blocks\.{_STAGE}\.res_blocks\.{_BLOCK}\.branch2\.norm_(?P<k>[abc])\.",
                "backbone.stages.{s}.{b}.conv{k}.norm.",
            ),
            (
                rf"blocks\.{_STAGE}\.res_blocks\.{_BLOCK}\.branch1_conv\.",
                "backbone.stages.{s}.{b}.shortcut.conv.",
            ),
            (
                rf"blocks\.{_STAGE}\.res_blocks\.{_BLOCK}\.branch1_norm\.",
                "backbone.stages.{s}.{b}.shortcut.norm.",
            ),
            (r"blocks\.\d+\.proj\.", "classifier."),
        ),
        statistics=_SLOWFAST_STATISTICS,
    ),
    "pyslowfast": Naming(
        "s1.pathway0_stem.conv.weight",
        (
            (r"s1\.pathway0_stem\.conv\.", "backbone.stem.conv."),
            (r"s1\.pathway0_stem\.bn\.", "backbone.stem.norm."),
            (
                rf"s{_STAGE}\.pathway0_res{_BLOCK}\.branch2\.(?P<k>[abc])\.",
                "backbone.stages.{s}.{b}.conv{k}.conv.",
            ),
            (
                rf"s{_STAGE}\.pathway0_res{_BLOCK}\.branch2\.(?P<k>[abc])_bn\.",
                "backbone.stages.{s}.{b}.conv{k}.norm.",
            ),
            (
                rf"s{_STAGE}\.pathway0_res{_BLOCK}\.branch1\.",
                "backbone.stages.{s}.{b}.shortcut.conv.",
            ),
            (
                rf"s{_STAGE}\.pathway0_res{_BLOCK}\.branch1_bn\.",
                "backbone.stages.{s}.{b}.shortcut.norm.",
            ),
            *_non_local(
                {
                    "conv_theta": "theta.conv",
                    "conv_phi": "phi.conv",
                    "conv_g": "g.conv",
                    "conv_out": "out.conv",
                    "(?:bn|norm)": "out.norm",
                },
                rf"s{_STAGE}\.pathway0_nonlocal{_BLOCK}\.",
            ),
            (r"head\.projection\.", "classifier."),
        ),
        non_local_pooling="before",
        statistics=_SLOWFAST_STATISTICS,
    ),
    "mmaction2": Naming(
        "backbone.layer1.0.conv1.conv.weight",
        (
            (r"backbone\.conv1\.conv\.", "backbone.stem.conv."),
            (r"backbone\.conv1\.bn\.", "backbone.stem.norm."),
            (
                rf"backbone\.layer{_STAGE}\.{_BLOCK}\.conv(?P<k>\d)\.conv\.",
                "backbone.stages.{s}.{b}.conv{k}.conv.",
            ),
            (
                rf"backbone\.layer{_STAGE}\.{_BLOCK}\.conv(?P<k>\d)\.bn\.",
                "backbone.stages.{s}.{b}.conv{k}.norm.",
            ),
            (
                rf"backbone\.layer{_STAGE}\.{_BLOCK}\.downsample\.conv\.",
                "backbone.stages.{s}.{b}.shortcut.conv.",
            ),
            (
                rf"backbone\.layer{_STAGE}\.{_BLOCK}\.downsample\.bn\.",
                "backbone.stages.{s}.{b}.shortcut.norm.",
            ),
            *_non_local(
                {
                    r"theta\.conv": "theta.conv",
                    r"phi\.0\.conv": "phi.conv",
                    r"g\.0\.conv": "g.conv",
                },
                rf"backbone\.layer{_STAGE}\.{_BLOCK}\.non_local_block\.",
            ),
            (r"cls_head\.fc_cls\.", "classifier."),
        ),
        frames_sampled=False,
    ),
    "gluoncv": Naming(
        "first_stage.0.weight",
        (
            (r"first_stage\.0\.", "backbone.stem.conv."),
            (r"first_stage\.1\.", "backbone.stem.norm."),
            (
                rf"res_layers\.{_STAGE}\.{_BLOCK}\.conv(?P<k>\d)\.",
                "backbone.stages.{s}.{b}.conv{k}.conv.",
            ),
            (
                rf"res_layers\.{_STAGE}\.{_BLOCK}\.bn(?P<k>\d)\.",
                "backbone.stages.{s}.{b}.conv{k}.norm.",
            ),
            (
                rf"res_layers\.{_STAGE}\.{_BLOCK}\.downsample\.0\.",
                "backbone.stages.{s}.{b}.shortcut.conv.",
            ),
            (
                rf"res_layers\.{_STAGE}\.{_BLOCK}\.downsample\.1\.",
                "backbone.stages.{s}.{b}.shortcut.norm.",
            ),
            *_non_local(
                {
                    "theta": "theta.conv",
                    "phi": "phi.conv",
                    "g": "g.conv",
                    "W": "out.conv",
                    "bn": "out.norm",
                },
                rf"res_layers\.{_STAGE}\.{_BLOCK}\.nonlocal_block\.",
            ),
            (r"fc\.", "classifier."),
        ),
        duplicates=(r"head\.1\.", r"res_layers\.\d+\.\d+\.nonlocal_block\.W_bn\."),
        frames_sampled=False,
        non_local_pooling="none",
    ),
}


def detect_package(names: Iterable[str]) -> PackageName | None:
    """Return the package that uses these tensor names, or None if it is unknown."""
    present = set(names)
    return next((name for name, naming in NAMINGS.items() if naming.signature in present), None)
