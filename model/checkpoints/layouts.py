"""How public packages name the weights of a residual net, and what those names are here.

One table per package. A rule's pattern matches the beginning of a name; what follows (`weight`,
`running_mean`, ...) is kept. `{s}` is a stage, counted from the number its package gives to stage
2; `{b}` a block; `{k}` a convolution of the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from model.media.preprocess import MEAN_RGB, STD_RGB

__all__ = ["LAYOUTS", "Layout", "LayoutName", "detect_layout"]

LayoutName = Literal["torchvision", "pytorchvideo", "pyslowfast", "mmaction2", "gluoncv"]

Statistics = tuple[float, float, float]
# Facebook's video models: 0.45 and 0.225 of white for every channel.
_SLOWFAST_STATISTICS = ((114.75, 114.75, 114.75), (57.375, 57.375, 57.375))
_CONV = {"a": "1", "b": "2", "c": "3"}
_STAGE = r"(?P<s>\d+)"
_BLOCK = r"(?P<b>\d+)"


@dataclass(frozen=True)
class Layout:
    """One package's names.

    Attributes:
        signature: a name that every file of this layout holds and no file of another.
        rules: pattern to name here; the first that matches counts.
        aliases: names of tensors that the file holds a second time under a name above.
        frames_sampled: True where the package feeds r2d and i3d every fourth frame, False where it
            strides over all.
        statistics: means and deviations of the channels in grey levels, as its training normalised
            pictures.
        non_local_pooling: where its non-local blocks pool; None if they compute something else than
            those here.
    """

    signature: str
    rules: tuple[tuple[str, str], ...]
    aliases: tuple[str, ...] = ()
    frames_sampled: bool = True
    non_local_pooling: Literal["before", "none"] | None = None
    statistics: tuple[Statistics, Statistics] = (MEAN_RGB, STD_RGB)
    _compiled: list[tuple[re.Pattern[str], str]] = field(
        default_factory=list, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._compiled.extend((re.compile(pattern), target) for pattern, target in self.rules)

    def stages(self, names: Iterable[str]) -> dict[str, int]:
        """The package's number of each stage to the number here, 0 for stage 2."""
        found = {
            match["s"]
            for name in names
            for match in [self._match(name)[0]]
            if match and "s" in match.groupdict()
        }
        return {number: index for index, number in enumerate(sorted(found, key=int))}

    def translate(self, name: str, stages: dict[str, int]) -> str | None:
        """The name here of one of the package's tensors; None for what is not part of the
        network.
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

LAYOUTS: dict[LayoutName, Layout] = {
    # Also timm, and GluonCV's SlowOnly and R2D.
    "torchvision": Layout("layer1.0.conv1.weight", _TORCHVISION_RULES),
    "pytorchvideo": Layout(
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
    "pyslowfast": Layout(
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
    "mmaction2": Layout(
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
    "gluoncv": Layout(
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
        aliases=(r"head\.1\.", r"res_layers\.\d+\.\d+\.nonlocal_block\.W_bn\."),
        frames_sampled=False,
        non_local_pooling="none",
    ),
}


def detect_layout(names: Iterable[str]) -> LayoutName | None:
    """Which package wrote these names; None if no layout here did."""
    present = set(names)
    return next((name for name, layout in LAYOUTS.items() if layout.signature in present), None)
