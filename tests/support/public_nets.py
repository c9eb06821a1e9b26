"""Networks of public packages, built by the packages' own code, to compare ours with.

`make public-nets` installs them into `.public-nets/`. Several of these packages are older than
today's PyTorch; each function says what it replaces because it no longer imports. No replacement
is part of a network.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn

from tests import ROOT

FOLDER = ROOT / ".public-nets"
_INFLATED = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
_NON_LOCAL = ((0, 0, 0), (0, 1, 0, 1), (0, 1, 0, 1, 0, 1), (0, 0, 0))
# SlowFast: frames of the fast pathway for each one of the slow pathway -> kernel between them
LATERAL_TIME = {8: 5, 4: 7}
_kept: list[Any] = []


@dataclass(frozen=True)
class PublicNet:
    """One network.

    Attributes:
        build: builds it.
        logits: calls it for logits.
        frames: frames of its clip.
        side: the only size that it takes, in pixels; 0 for any.
        images: whether it takes single frames.
    """

    build: Callable[[], nn.Module]
    logits: Callable[[nn.Module, Tensor], Tensor] = lambda net, clips: net(clips)
    frames: int = 8
    side: int = 0
    images: bool = False


def installed() -> bool:
    """Whether `make public-nets` has run."""
    return (FOLDER / ".installed").is_file()


def build(name: str) -> tuple[nn.Module, PublicNet]:
    """Build a network, in evaluation mode."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PUBLIC_NETS[name].build().eval(), PUBLIC_NETS[name]


@torch.no_grad()
def randomise(net: nn.Module, seed: int) -> None:
    """Set random weights and batch-norm statistics that keep activations moderate."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, scale: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)

    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            gain = (
                0.4
                if any(part in name for part in ("theta", "phi", "conv_g", "conv_out", "nonlocal"))
                else 1.0
            )
            normal(module.weight, gain * module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                normal(module.bias, 0.1)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            normal(module.running_mean, 0.1)
            module.running_var.copy_(
                torch.rand(module.running_var.shape, generator=generator) + 0.5
            )
            module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
            normal(module.bias, 0.1)


def _bare_package(name: str) -> None:
    """A package whose `__init__` is not run; its submodules import as ever."""
    if name in sys.modules:
        return
    package = types.ModuleType(name)
    package.__path__ = [str(FOLDER / name.replace(".", "/"))]
    sys.modules[name] = package
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, package)


def _torchvision() -> Any:
    # The wheel is a CUDA build whose operators do not load beside a CPU build of PyTorch; it needs
    # their schemas to import.
    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            # PyTorch's ONNX exporter declares one of them as well.
            if not hasattr(torch.ops.torchvision, operator):
                library.define(
                    operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        _kept.append(library)
    return importlib.import_module("torchvision")


def _timm() -> nn.Module:
    _torchvision()
    net: nn.Module = importlib.import_module("timm").create_model("resnet50", pretrained=False)
    return net


def _pytorchvideo(name: str) -> nn.Module:
    _torchvision()
    hub = importlib.import_module("pytorchvideo.models.hub.resnet")
    net: nn.Module = getattr(hub, name)(pretrained=False, model_num_class=400)
    return net


def _pytorchvideo_slowfast(ratio: int) -> nn.Module:
    """SlowFast 4x16 or 8x8, for 8 or 4 frames of the fast pathway for each of the slow one."""
    _torchvision()
    net: nn.Module = importlib.import_module("pytorchvideo.models.slowfast").create_slowfast(
        slowfast_fusion_conv_kernel_size=(LATERAL_TIME[ratio], 1, 1),
        slowfast_fusion_conv_stride=(ratio, 1, 1),
        head_pool_kernel_sizes=((32 // ratio, 7, 7), (32, 7, 7)),
    )
    return net


def _pyslowfast(arch: str, *, non_local: bool = False, ratio: int = 0) -> nn.Module:
    """With the settings of the package's configs/Kinetics/*_R50.yaml."""
    # detectron2 is not on PyPI; only the detection head, never built here, uses it.
    layers = types.ModuleType("detectron2.layers")
    layers.ROIAlign = object  # type: ignore[attr-defined]
    sys.modules.setdefault("detectron2", types.ModuleType("detectron2"))
    sys.modules.setdefault("detectron2.layers", layers)
    config = importlib.import_module("slowfast.config.defaults").get_cfg()
    config.DATA.NUM_FRAMES, config.DATA.SAMPLING_RATE, config.DATA.CROP_SIZE = 8, 8, 224
    config.DATA.INPUT_CHANNEL_NUM = [3]
    if ratio:
        config.DATA.NUM_FRAMES, config.DATA.INPUT_CHANNEL_NUM = 32, [3, 3]
        config.SLOWFAST.ALPHA, config.SLOWFAST.FUSION_KERNEL_SZ = ratio, LATERAL_TIME[ratio]
    config.RESNET.DEPTH, config.RESNET.NUM_GROUPS, config.RESNET.WIDTH_PER_GROUP = 50, 1, 64
    config.RESNET.STRIDE_1X1 = False
    pathways = 2 if ratio else 1
    config.RESNET.NUM_BLOCK_TEMP_KERNEL = [[n] * pathways for n in (3, 4, 6, 3)]
    config.RESNET.SPATIAL_STRIDES = [[n] * pathways for n in (1, 2, 2, 2)]
    config.RESNET.SPATIAL_DILATIONS = [[1] * pathways] * 4
    places = [[[]], [[1, 3]], [[1, 3, 5]], [[]]] if non_local else [[[]] * pathways] * 4
    config.NONLOCAL.LOCATION = places
    config.NONLOCAL.GROUP = [[1] * pathways] * 4
    config.NONLOCAL.POOL = [[[1, 2, 2]] * pathways] * 4
    config.NONLOCAL.INSTANTIATION = "softmax"
    config.MODEL.ARCH, config.MODEL.NUM_CLASSES, config.MODEL.DROPOUT_RATE = arch, 400, 0.5
    builder = importlib.import_module("slowfast.models.video_model_builder")
    net: nn.Module = (builder.SlowFastModel if ratio else builder.ResNetModel)(config)
    # In evaluation the head applies softmax; without it the outputs are logits.
    net.head.act = nn.Identity()
    return net


def _mmaction2_models() -> Any:
    """The package's function that builds models from their settings."""
    _torchvision()
    importlib.import_module("mmaction")
    # The wheel lacks one of the modules that `mmaction.models` imports; its parts import without
    # it.
    _bare_package("mmaction.models")
    for part in ("backbones", "data_preprocessors", "heads", "losses", "recognizers"):
        importlib.import_module(f"mmaction.models.{part}")
    importlib.import_module("mmengine.registry").init_default_scope("mmaction")
    return importlib.import_module("mmaction.registry").MODELS.build


def _mmaction2(**backbone: Any) -> nn.Module:
    head = {
        "type": "I3DHead",
        "num_classes": 400,
        "in_channels": 2048,
        "spatial_type": "avg",
        "average_clips": "prob",
    }
    if backbone["type"] == "ResNet3dSlowFast":
        head |= {"type": "SlowFastHead", "in_channels": 2304}
    parts = {"type": "Recognizer3D", "backbone": backbone, "cls_head": head}
    parts["data_preprocessor"] = {
        "type": "ActionDataPreprocessor",
        "mean": [0] * 3,
        "std": [1] * 3,
        "format_shape": "NCTHW",
    }
    net: nn.Module = _mmaction2_models()(parts)
    return net


def _mmaction2_i3d() -> nn.Module:
    return _mmaction2(
        type="ResNet3d",
        pretrained=None,
        depth=50,
        conv1_kernel=(5, 7, 7),
        conv1_stride_t=2,
        pool1_stride_t=2,
        conv_cfg={"type": "Conv3d"},
        norm_eval=False,
        inflate=_INFLATED,
        zero_init_residual=False,
    )


def _mmaction2_slow_only() -> nn.Module:
    return _mmaction2(
        type="ResNet3dSlowOnly",
        depth=50,
        pretrained=None,
        lateral=False,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(0, 0, 1, 1),
        norm_eval=False,
    )


def _mmaction2_slowfast(ratio: int) -> nn.Module:
    """With the settings of the package's slowfast_r50_*_4x16x1 and 8x8x1."""
    pathway = {
        "type": "resnet3d",
        "depth": 50,
        "pretrained": None,
        "conv1_stride_t": 1,
        "pool1_stride_t": 1,
        "norm_eval": False,
    }
    slow = {
        "lateral": True,
        "conv1_kernel": (1, 7, 7),
        "inflate": (0, 0, 1, 1),
        "fusion_kernel": LATERAL_TIME[ratio],
    }
    return _mmaction2(
        type="ResNet3dSlowFast",
        resample_rate=ratio,
        speed_ratio=ratio,
        slow_pathway=pathway | slow,
        fast_pathway=pathway | {"lateral": False, "base_channels": 8, "conv1_kernel": (5, 7, 7)},
    )


def _mmaction2_trn(relation: str) -> nn.Module:
    backbone = {"type": "ResNet", "depth": 50, "pretrained": None, "norm_eval": False}
    head = {
        "type": "TRNHead",
        "num_classes": 174,
        "in_channels": 2048,
        "relation_type": relation,
    }
    net: nn.Module = _mmaction2_models()(
        {"type": "Recognizer2D", "backbone": backbone, "cls_head": head}
    )
    return net


def _gluoncv(module: str) -> Any:
    # The package's own `__init__` files ask for PyTorch below 2.0.
    for name in (
        "gluoncv",
        "gluoncv.torch",
        "gluoncv.torch.model_zoo",
        "gluoncv.torch.model_zoo.action_recognition",
    ):
        _bare_package(name)
    return importlib.import_module(f"gluoncv.torch.model_zoo.action_recognition.{module}")


def _gluoncv_i3d(**non_local: Any) -> nn.Module:
    # `pretrained=True` here only leaves out inflating a downloaded 2D net; the factories with that
    # flag would download.
    net: nn.Module = _gluoncv("i3d_resnet").I3D_ResNetV1(
        num_classes=400,
        depth=50,
        pretrained=True,
        pretrained_base=True,
        feat_ext=False,
        num_segment=1,
        num_crop=1,
        out_indices=[3],
        inflate_freq=_INFLATED,
        bn_eval=False,
        partial_bn=False,
        bn_frozen=False,
        **non_local,
    )
    return net


def _gluoncv_settings() -> Any:
    model = SimpleNamespace(
        PRETRAINED=False, PRETRAINED_BASE=False, BN_EVAL=False, PARTIAL_BN=False, BN_FROZEN=False
    )
    data = SimpleNamespace(NUM_CLASSES=400, NUM_SEGMENT=1, NUM_CROP=1)
    return SimpleNamespace(
        CONFIG=SimpleNamespace(DATA=data, MODEL=model, INFERENCE=SimpleNamespace(FEAT=False))
    )


def _gluoncv_slow_only() -> nn.Module:
    net: nn.Module = _gluoncv("i3d_slow").i3d_slow_resnet50_f8s8_kinetics400(_gluoncv_settings())
    return net


def _gluoncv_slowfast(name: str) -> nn.Module:
    build = getattr(_gluoncv("slowfast"), f"slowfast_{name}_resnet50_kinetics400")
    net: nn.Module = build(_gluoncv_settings())
    return net


def _slow_and_fast(ratio: int) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda net, clips: cast("Tensor", net([clips[:, :, ::ratio].clone(), clips]))


def _relations(net: nn.Module, clips: Tensor) -> Tensor:
    """Call a TRN with the tuples that evaluation here reads, instead of random ones."""

    def spread(count: int, wanted: int, replace: bool) -> list[int]:
        return [int((i + 0.5) * count / wanted) for i in range(wanted)]

    frames = clips.transpose(1, 2).flatten(0, 1)
    with mock.patch("numpy.random.choice", spread):
        logits: Tensor = net.cls_head(net.backbone(frames), 8)  # type: ignore[operator]
    return logits


def _pathways(net: nn.Module, clips: Tensor) -> Tensor:
    logits: Tensor = net([clips])
    return logits


def _recogniser(net: nn.Module, clips: Tensor) -> Tensor:
    logits: Tensor = net.cls_head(net.backbone(clips))  # type: ignore[operator]
    return logits


PUBLIC_NETS: dict[str, PublicNet] = {
    "torchvision resnet50": PublicNet(
        lambda: _torchvision().models.resnet50(weights=None), images=True
    ),
    "timm resnet50": PublicNet(_timm, images=True),
    "PyTorchVideo C2D": PublicNet(lambda: _pytorchvideo("c2d_r50"), side=224),
    "PyTorchVideo I3D": PublicNet(lambda: _pytorchvideo("i3d_r50"), side=224),
    "PyTorchVideo Slow": PublicNet(lambda: _pytorchvideo("slow_r50"), side=224),
    "PySlowFast C2D": PublicNet(lambda: _pyslowfast("c2d"), _pathways, side=224),
    "PySlowFast I3D": PublicNet(lambda: _pyslowfast("i3d"), _pathways, side=224),
    "PySlowFast I3D-NL": PublicNet(lambda: _pyslowfast("i3d", non_local=True), _pathways, side=224),
    "PySlowFast Slow": PublicNet(lambda: _pyslowfast("slowonly"), _pathways, side=224),
    "mmaction2 I3D": PublicNet(_mmaction2_i3d, _recogniser, frames=32),
    "mmaction2 SlowOnly": PublicNet(_mmaction2_slow_only, _recogniser),
    "GluonCV I3D": PublicNet(_gluoncv_i3d, frames=32),
    "GluonCV I3D-NL": PublicNet(
        lambda: _gluoncv_i3d(
            nonlocal_stages=(1, 2),
            nonlocal_cfg={"nonlocal_type": "gaussian"},
            nonlocal_freq=_NON_LOCAL,
        ),
        frames=32,
    ),
    "GluonCV SlowOnly": PublicNet(_gluoncv_slow_only),
    # Each package once: all of them have both sizes.
    "PyTorchVideo SlowFast 8x8": PublicNet(
        lambda: _pytorchvideo_slowfast(4), _slow_and_fast(4), frames=32, side=224
    ),
    "PySlowFast SlowFast 4x16": PublicNet(
        lambda: _pyslowfast("slowfast", ratio=8), _slow_and_fast(8), frames=32, side=224
    ),
    "mmaction2 SlowFast 8x8": PublicNet(lambda: _mmaction2_slowfast(4), _recogniser, frames=32),
    "GluonCV SlowFast 4x16": PublicNet(lambda: _gluoncv_slowfast("4x16"), frames=32),
    "mmaction2 TRN": PublicNet(lambda: _mmaction2_trn("TRN"), _relations),
    "mmaction2 TRN, multi-scale": PublicNet(lambda: _mmaction2_trn("TRNMultiScale"), _relations),
}
