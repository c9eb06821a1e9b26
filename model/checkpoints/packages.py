"""The tensor names of each public package, and the settings with which it trains networks.

In files of SlowFast, the slow pathway first gets the names of a network with one pathway, and in
files of TRN, the layer of frame features is first called the classifier;
`model/checkpoints/rewriting.py` puts both right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from model.checkpoints.naming import BLOCK, STAGE, Naming

__all__ = ["NAMINGS", "PackageName", "detect_package"]

PackageName = Literal[
    "torchvision",
    "pytorchvideo",
    "pyslowfast",
    "mmaction2",
    "gluoncv",
    "TRN-pytorch",
    "bLVNet-TAM",
]
Rules = tuple[tuple[str, str], ...]

# Facebook's video models use a mean of 0.45 and a standard deviation of 0.225 in every channel.
_SLOWFAST_STATISTICS = ((114.75, 114.75, 114.75), (57.375, 57.375, 57.375))
_LATERAL = r"(?P<l>[0-9]{1,3})"

# The parts of a residual block: convolution, norm, convolution and norm of the shortcut.
_PLAIN = (r"conv(?P<k>\d)\.", r"bn(?P<k>\d)\.", r"downsample\.0\.", r"downsample\.1\.")
_AFTER_POOL = (*_PLAIN[:2], r"downsample\.1\.", r"downsample\.2\.")
_OF_PYTORCHVIDEO = (
    r"branch2\.conv_(?P<k>[abc])\.",
    r"branch2\.norm_(?P<k>[abc])\.",
    r"branch1_conv\.",
    r"branch1_norm\.",
)
_OF_PYSLOWFAST = (
    r"branch2\.(?P<k>[abc])\.",
    r"branch2\.(?P<k>[abc])_bn\.",
    r"branch1\.",
    r"branch1_bn\.",
)
_OF_MMACTION2 = (
    r"conv(?P<k>\d)\.conv\.",
    r"conv(?P<k>\d)\.bn\.",
    r"downsample\.conv\.",
    r"downsample\.bn\.",
)
_OF_PATHWAY = r"blocks\.0\.multipathway_blocks\."
_SLOW_PATH, _FAST_PATH = r"backbone\.slow_path\.", r"backbone\.fast_path\."
# Where this project's names of a pathway start; see the top of this file for the slow one.
_SLOW, _FAST = "backbone.", "backbone.fast."


def _stem(conv: str, norm: str, pathway: str = _SLOW) -> Rules:
    return (conv, pathway + "stem.conv."), (norm, pathway + "stem.norm.")


def _blocks(prefix: str, parts: tuple[str, ...], place: str = _SLOW + "stages.{s}.{b}.") -> Rules:
    ours = ("conv{k}.conv.", "conv{k}.norm.", "shortcut.conv.", "shortcut.norm.")
    return tuple((prefix + part, place + own) for part, own in zip(parts, ours, strict=True))


def _fast_blocks(prefix: str, parts: tuple[str, ...]) -> Rules:
    return _blocks(prefix, parts, _FAST + "stages.{s}.{b}.")


def _laterals(conv: str, norm: str) -> Rules:
    return (conv, "backbone.laterals.{l}.conv."), (norm, "backbone.laterals.{l}.norm.")


def _non_local(names: dict[str, str], prefix: str) -> Rules:
    return tuple(
        (prefix + theirs + r"\.", "backbone.non_local.{s}_{b}." + ours + ".")
        for theirs, ours in names.items()
    )


def _relations(prefix: str) -> Rules:
    """Return the rules for relation networks: of all scales, and of one scale."""
    several = rf"{prefix}fc_fusion_scales\.{BLOCK}\."
    one = rf"{prefix}classifier\."
    return (
        (several + r"1\.", "relations.{b}.hidden."),
        (several + r"3\.", "relations.{b}.votes."),
        (one + r"1\.", "relations.0.hidden."),
        (one + r"3\.", "relations.0.votes."),
    )


def _aggregation(prefix: str, place: str) -> Rules:
    names = {"prev": "previous", "curr": "current", "next": "next"}
    return tuple(
        (rf"{prefix}tam\.{theirs}\.weight$", f"{place}aggregate.{ours}")
        for theirs, ours in names.items()
    )


def _blvnet_rules() -> Rules:
    net = r"baseline_model\."
    stage, place = rf"{net}layer{STAGE}\.", "backbone.stages.{s}."
    last, last_place = rf"{net}layer4\.{BLOCK}\.", "backbone.last.{b}."
    entry = "backbone.entry."
    return (
        *_stem(rf"{net}conv1\.", rf"{net}bn1\."),
        *_aggregation(net, entry),
        (rf"{net}b_conv0\.", entry + "big.conv."),
        (rf"{net}bn_b0\.", entry + "big.norm."),
        (rf"{net}l_conv(?P<k>[01])\.", entry + "little.{k}.conv."),
        (rf"{net}bn_l(?P<k>[01])\.", entry + "little.{k}.norm."),
        (rf"{net}l_conv2\.", entry + "widen.conv."),
        (rf"{net}bn_l2\.", entry + "widen.norm."),
        (rf"{net}bl_init\.", entry + "merge.conv."),
        (rf"{net}bn_bl_init\.", entry + "merge.norm."),
        *_aggregation(last, last_place),
        *_blocks(last, _AFTER_POOL, last_place),
        *_aggregation(stage, place),
        *_blocks(rf"{stage}big\.{BLOCK}\.", _AFTER_POOL, place + "big.{b}."),
        *_blocks(rf"{stage}little\.{BLOCK}\.", _PLAIN, place + "little.{b}."),
        (rf"{stage}little_e\.0\.", place + "widen.conv."),
        (rf"{stage}little_e\.1\.", place + "widen.norm."),
        *_blocks(rf"{stage}fusion\.0\.", _PLAIN, place + "merge."),
        (r"new_fc\.", "classifier."),
        (rf"{net}fc\.", "classifier."),
    )


NAMINGS: dict[PackageName, Naming] = {
    # timm, and SlowOnly and R2D of GluonCV, use the same names.
    "torchvision": Naming(
        ("layer1.0.conv1.weight",),
        (
            *_stem(r"conv1\.", r"bn1\."),
            *_blocks(rf"layer{STAGE}\.{BLOCK}\.", _PLAIN),
            (r"fc\.", "classifier."),
        ),
    ),
    "pytorchvideo": Naming(
        ("blocks.0.conv.weight", "blocks.0.multipathway_blocks.0.conv.weight"),
        (
            *_stem(r"blocks\.0\.conv\.", r"blocks\.0\.norm\."),
            *_blocks(rf"blocks\.{STAGE}\.res_blocks\.{BLOCK}\.", _OF_PYTORCHVIDEO),
            *_stem(_OF_PATHWAY + r"0\.conv\.", _OF_PATHWAY + r"0\.norm\."),
            *_stem(_OF_PATHWAY + r"1\.conv\.", _OF_PATHWAY + r"1\.norm\.", _FAST),
            *_blocks(
                rf"blocks\.{STAGE}\.multipathway_blocks\.0\.res_blocks\.{BLOCK}\.",
                _OF_PYTORCHVIDEO,
            ),
            *_fast_blocks(
                rf"blocks\.{STAGE}\.multipathway_blocks\.1\.res_blocks\.{BLOCK}\.",
                _OF_PYTORCHVIDEO,
            ),
            *_laterals(
                rf"blocks\.{_LATERAL}\.multipathway_fusion\.conv_fast_to_slow\.",
                rf"blocks\.{_LATERAL}\.multipathway_fusion\.norm\.",
            ),
            (r"blocks\.\d+\.proj\.", "classifier."),
        ),
        statistics=_SLOWFAST_STATISTICS,
    ),
    "pyslowfast": Naming(
        ("s1.pathway0_stem.conv.weight",),
        (
            *_stem(r"s1\.pathway0_stem\.conv\.", r"s1\.pathway0_stem\.bn\."),
            *_stem(r"s1\.pathway1_stem\.conv\.", r"s1\.pathway1_stem\.bn\.", _FAST),
            *_blocks(rf"s{STAGE}\.pathway0_res{BLOCK}\.", _OF_PYSLOWFAST),
            *_fast_blocks(rf"s{STAGE}\.pathway1_res{BLOCK}\.", _OF_PYSLOWFAST),
            *_laterals(rf"s{_LATERAL}_fuse\.conv_f2s\.", rf"s{_LATERAL}_fuse\.bn\."),
            *_non_local(
                {
                    "conv_theta": "theta.conv",
                    "conv_phi": "phi.conv",
                    "conv_g": "g.conv",
                    "conv_out": "out.conv",
                    "(?:bn|norm)": "out.norm",
                },
                rf"s{STAGE}\.pathway0_nonlocal{BLOCK}\.",
            ),
            (r"head\.projection\.", "classifier."),
        ),
        non_local_pooling="before",
        statistics=_SLOWFAST_STATISTICS,
    ),
    "mmaction2": Naming(
        (
            "backbone.layer1.0.conv1.conv.weight",
            "backbone.slow_path.layer1.0.conv1.conv.weight",
        ),
        (
            *_stem(r"backbone\.conv1\.conv\.", r"backbone\.conv1\.bn\."),
            *_blocks(rf"backbone\.layer{STAGE}\.{BLOCK}\.", _OF_MMACTION2),
            *_stem(_SLOW_PATH + r"conv1\.conv\.", _SLOW_PATH + r"conv1\.bn\."),
            *_stem(_FAST_PATH + r"conv1\.conv\.", _FAST_PATH + r"conv1\.bn\.", _FAST),
            *_blocks(rf"{_SLOW_PATH}layer{STAGE}\.{BLOCK}\.", _OF_MMACTION2),
            *_fast_blocks(rf"{_FAST_PATH}layer{STAGE}\.{BLOCK}\.", _OF_MMACTION2),
            # The first connection is called `conv1_lateral`; it has no number.
            *_laterals(
                rf"{_SLOW_PATH}(?:conv1|layer{_LATERAL})_lateral\.conv\.",
                rf"{_SLOW_PATH}(?:conv1|layer{_LATERAL})_lateral\.bn\.",
            ),
            *_non_local(
                {
                    r"theta\.conv": "theta.conv",
                    r"phi\.0\.conv": "phi.conv",
                    r"g\.0\.conv": "g.conv",
                },
                rf"backbone\.layer{STAGE}\.{BLOCK}\.non_local_block\.",
            ),
            *_relations(r"cls_head\.consensus\."),
            (r"cls_head\.fc_cls\.", "classifier."),
        ),
        frames_sampled=False,
    ),
    "gluoncv": Naming(
        ("first_stage.0.weight", "slow_conv1.weight"),
        (
            *_stem(r"first_stage\.0\.", r"first_stage\.1\."),
            *_blocks(rf"res_layers\.{STAGE}\.{BLOCK}\.", _PLAIN),
            *_stem(r"slow_conv1\.", r"slow_bn1\."),
            *_stem(r"fast_conv1\.", r"fast_bn1\.", _FAST),
            *_blocks(rf"slow_res{STAGE}\.{BLOCK}\.", _PLAIN),
            *_fast_blocks(rf"fast_res{STAGE}\.{BLOCK}\.", _PLAIN),
            *_laterals(rf"lateral_(?:p|res){_LATERAL}\.0\.", rf"lateral_(?:p|res){_LATERAL}\.1\."),
            *_non_local(
                {
                    "theta": "theta.conv",
                    "phi": "phi.conv",
                    "g": "g.conv",
                    "W": "out.conv",
                    "bn": "out.norm",
                },
                rf"res_layers\.{STAGE}\.{BLOCK}\.nonlocal_block\.",
            ),
            (r"fc\.", "classifier."),
        ),
        duplicates=(r"head\.1\.", r"res_layers\.\d+\.\d+\.nonlocal_block\.W_bn\."),
        frames_sampled=False,
        non_local_pooling="none",
    ),
    "TRN-pytorch": Naming(
        ("consensus.fc_fusion_scales.0.1.weight", "consensus.classifier.1.weight"),
        (
            *_stem(r"base_model\.conv1\.", r"base_model\.bn1\."),
            *_blocks(rf"base_model\.layer{STAGE}\.{BLOCK}\.", _PLAIN),
            *_relations(r"consensus\."),
            (r"new_fc\.", "classifier."),
        ),
    ),
    "bLVNet-TAM": Naming(("baseline_model.b_conv0.weight",), _blvnet_rules()),
}


def detect_package(names: Iterable[str]) -> PackageName | None:
    """Return the package that uses these tensor names, or None if it is unknown."""
    present = set(names)
    return next(
        (name for name, naming in NAMINGS.items() if present & set(naming.signatures)), None
    )
