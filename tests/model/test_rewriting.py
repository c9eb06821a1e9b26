"""Files of SlowFast, TRN and bLVNet-TAM, with the tensor names of their public code.

`tests/model/test_importers.py` compares SlowFast and TRN with public packages' own networks, if
they are installed. The names of TRN-pytorch and bLVNet-TAM were read in their repositories.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import CheckpointError
from model import ModelConfig, build_model, load_model
from model.__main__ import main
from model.checkpoints.importers import import_state
from model.checkpoints.rewriting import Named, rewritten
from tests.model.test_conv import settle
from tests.model.test_importers import image_state

State = dict[str, torch.Tensor]


def renamed(state: State, rules: list[tuple[str, str]]) -> State:
    """Replace our names by a package's, by the first rule that matches the whole name."""
    result = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        (target,) = [
            re.sub(f"^{ours}$", theirs, key) for ours, theirs in rules if re.match(f"^{ours}$", key)
        ][:1] or [""]
        assert target, key
        result[target] = value
    return result


def network_state(**fields: object) -> tuple[torch.nn.Module, State]:
    config = ModelConfig.model_validate({"cidc": None, "width": 8, "num_classes": 3} | fields)
    network = settle(build_model(config))
    return network, dict(network.state_dict())


def check_import(
    theirs: State, network: torch.nn.Module, package: str, *, backbone: str | None = None
) -> None:
    imported = import_state(theirs, backbone=backbone)
    assert imported.package == package
    assert imported.missing == imported.left_over == ()
    assert set(imported.used) == set(theirs)
    clips = torch.randn(1, 3, imported.network.config.frames, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(imported.network(clips), network(clips), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "depth"), [("slowfast_4x16", 50), ("slowfast_8x8", 50), ("slowfast_4x16", 101)]
)
def test_slowfast_under_the_names_of_pyslowfast(backbone: str, depth: int) -> None:
    network, state = network_state(backbone=backbone, depth=depth)
    rules = []
    for number, pathway in enumerate(("slow", "fast")):
        net = rf"backbone\.{pathway}\."
        rules += [
            (rf"{net}stem\.conv\.(\w+)", rf"s1.pathway{number}_stem.conv.\1"),
            (rf"{net}stem\.norm\.(\w+)", rf"s1.pathway{number}_stem.bn.\1"),
        ]
        for stage in range(4):
            block = rf"s{stage + 2}.pathway{number}_res\1."
            place = rf"{net}stages\.{stage}\.(\d+)\."
            for letter, conv in zip("abc", ("conv1", "conv2", "conv3"), strict=True):
                rules += [
                    (rf"{place}{conv}\.conv\.(\w+)", rf"{block}branch2.{letter}.\2"),
                    (rf"{place}{conv}\.norm\.(\w+)", rf"{block}branch2.{letter}_bn.\2"),
                ]
            rules += [
                (rf"{place}shortcut\.conv\.(\w+)", rf"{block}branch1.\2"),
                (rf"{place}shortcut\.norm\.(\w+)", rf"{block}branch1_bn.\2"),
            ]
    for stage in range(4):
        rules += [
            (rf"backbone\.laterals\.{stage}\.conv\.(\w+)", rf"s{stage + 1}_fuse.conv_f2s.\1"),
            (rf"backbone\.laterals\.{stage}\.norm\.(\w+)", rf"s{stage + 1}_fuse.bn.\1"),
        ]
    rules.append((r"classifier\.(\w+)", r"head.projection.\1"))
    theirs = renamed(state, rules)
    if depth == 101:
        with pytest.raises(CheckpointError, match="4x16 or 8x8 with the same tensors"):
            import_state(theirs)
    check_import(theirs, network, "pyslowfast", backbone=backbone if depth == 101 else None)
    with pytest.raises(CheckpointError, match=r"i3d has other layers; .* network is SlowFast"):
        import_state(theirs, backbone="i3d")


@pytest.mark.parametrize("depth", [50, 101])
def test_blvnet_under_the_names_of_its_repository(depth: int) -> None:
    network, state = network_state(backbone="blvnet_tam", depth=depth)
    net, entry = "baseline_model.", r"backbone\.entry\."
    rules = [
        (r"backbone\.stem\.conv\.(\w+)", net + r"conv1.\1"),
        (r"backbone\.stem\.norm\.(\w+)", net + r"bn1.\1"),
        (entry + r"big\.conv\.(\w+)", net + r"b_conv0.\1"),
        (entry + r"big\.norm\.(\w+)", net + r"bn_b0.\1"),
        (entry + r"little\.(\d)\.conv\.(\w+)", net + r"l_conv\1.\2"),
        (entry + r"little\.(\d)\.norm\.(\w+)", net + r"bn_l\1.\2"),
        (entry + r"widen\.conv\.(\w+)", net + r"l_conv2.\1"),
        (entry + r"widen\.norm\.(\w+)", net + r"bn_l2.\1"),
        (entry + r"merge\.conv\.(\w+)", net + r"bl_init.\1"),
        (entry + r"merge\.norm\.(\w+)", net + r"bn_bl_init.\1"),
        (r"classifier\.(\w+)", r"new_fc.\1"),
    ]
    tam = {"previous": "prev", "current": "curr", "next": "next"}
    for ours, short in tam.items():
        rules.append((rf"{entry}aggregate\.{ours}", f"{net}tam.{short}.weight"))
        rules.append(
            (rf"backbone\.last\.(\d)\.aggregate\.{ours}", rf"{net}layer4.\1.tam.{short}.weight")
        )
    places = [(r"backbone\.last\.(\d)\.", r"layer4.\1.", r"\2", 1)]
    for stage in range(3):
        ours, theirs = rf"backbone\.stages\.{stage}\.", f"layer{stage + 1}."
        places += [
            (ours + r"big\.(\d+)\.", theirs + r"big.\1.", r"\2", 1),
            (ours + r"little\.(\d+)\.", theirs + r"little.\1.", r"\2", 0),
            (ours + r"merge\.", theirs + "fusion.0.", r"\1", 0),
        ]
        rules += [
            (rf"{ours}aggregate\.{name}", f"{net}{theirs}tam.{short}.weight")
            for name, short in tam.items()
        ]
        rules.append((ours + r"widen\.conv\.(\w+)", net + theirs + r"little_e.0.\1"))
        rules.append((ours + r"widen\.norm\.(\w+)", net + theirs + r"little_e.1.\1"))
    for ours, theirs, rest, pools in places:
        for k in "123":
            rules.append((rf"{ours}conv{k}\.conv\.(\w+)", rf"{net}{theirs}conv{k}.{rest}"))
            rules.append((rf"{ours}conv{k}\.norm\.(\w+)", rf"{net}{theirs}bn{k}.{rest}"))
        # An average pool stands before the convolution of a shortcut with a stride.
        for i, part in enumerate(("conv", "norm")):
            target = rf"{net}{theirs}downsample.{i + pools}.{rest}"
            rules.append((rf"{ours}shortcut\.{part}\.(\w+)", target))
    flat = {
        key: value.squeeze(2) if value.dim() == 5 else value
        for key, value in renamed(state, rules).items()
    }
    check_import(flat, network, "bLVNet-TAM")


def trn_state(scales: list[int], hidden: int) -> State:
    torch.manual_seed(1)
    state = {f"base_model.{key}": value for key, value in image_state(depth=18).items()}
    state = {key: value for key, value in state.items() if ".fc." not in key}
    shapes: dict[str, tuple[int, ...]] = {"new_fc": (256, 64)}
    for i, scale in enumerate(scales):
        name = "consensus.classifier" if hidden == 512 else f"consensus.fc_fusion_scales.{i}"
        shapes |= {f"{name}.1": (hidden, 256 * scale), f"{name}.3": (7, hidden)}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape) * shape[1] ** -0.5
        state[f"{name}.bias"] = torch.randn(shape[0])
    return state


def logits_of(state: State, frames: torch.Tensor, name: str, chosen: tuple[int, ...]) -> np.ndarray:
    x = torch.relu(torch.cat([frames[:, t] for t in chosen], dim=1))
    x = torch.relu(x @ state[f"{name}.1.weight"].T + state[f"{name}.1.bias"])
    logits: np.ndarray = (x @ state[f"{name}.3.weight"].T + state[f"{name}.3.bias"]).numpy()
    return logits


@torch.no_grad()
def test_relation_networks_of_trn_pytorch() -> None:
    state = trn_state([4, 3, 2], 256)
    imported = import_state(state)
    assert imported.package == "TRN-pytorch"
    assert imported.missing == imported.left_over == ()
    assert set(imported.used) == set(state)
    config = imported.network.config
    assert (config.backbone, config.head, config.frames) == ("tsn", "trn_multiscale", 16)
    clips = torch.randn(2, 3, 16, 40, 40)
    features = imported.network.backbone(clips)[-1].mean(dim=(3, 4)).transpose(1, 2)
    frames = features @ state["new_fc.weight"].T + state["new_fc.bias"]
    expected = np.zeros((2, 7), np.float32)
    # The tuples that evaluation reads: 3 of each scale, evenly spread over their list.
    read = [[(0, 1, 2, 3)], [(0, 1, 2), (0, 2, 3), (1, 2, 3)], [(0, 2), (1, 2), (2, 3)]]
    for i, tuples in enumerate(read):
        name = f"consensus.fc_fusion_scales.{i}"
        expected += sum(logits_of(state, frames, name, chosen) for chosen in tuples)
    np.testing.assert_allclose(imported.network(clips).numpy(), expected, atol=1e-4)


@torch.no_grad()
def test_a_relation_network_of_one_scale_of_trn_pytorch() -> None:
    state = trn_state([3], 512)
    imported = import_state(state)
    assert imported.missing == imported.left_over == ()
    assert (imported.network.config.head, imported.network.config.frames) == ("trn", 12)
    clips = torch.randn(2, 3, 12, 40, 40)
    features = imported.network.backbone(clips)[-1].mean(dim=(3, 4)).transpose(1, 2)
    frames = features @ state["new_fc.weight"].T + state["new_fc.bias"]
    expected = logits_of(state, frames, "consensus.classifier", (0, 1, 2))
    np.testing.assert_allclose(imported.network(clips).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "new_fc.bias",
        "consensus.fc_fusion_scales.1.1.weight",
        "consensus.fc_fusion_scales.0.3.weight",
        "consensus.fc_fusion_scales.2.3.bias",
    ],
)
@pytest.mark.parametrize("value", [None, torch.zeros(()), torch.zeros(5, 0), torch.zeros(3, 3)])
def test_broken_relation_networks_are_one_clear_error(
    name: str, value: torch.Tensor | None
) -> None:
    state = trn_state([4, 3, 2], 256)
    del state[name]
    if value is not None:
        state[name] = value
    with pytest.raises(CheckpointError, match=r"^x: "):
        import_state(state, name="x")


def test_mmaction2s_connections_and_classifier_become_those_of_the_paper() -> None:
    fast, slow = torch.full((3, 2), 1.0), torch.full((3, 16), 2.0)
    ours = rewritten(
        {
            "backbone.stem.conv.weight": Named(torch.zeros(1), ("a",)),
            "backbone.fast.stem.conv.weight": Named(torch.zeros(1), ("b",)),
            "backbone.laterals.0.conv.weight": Named(torch.ones(4, 2, 5, 1, 1), ("c",)),
            "classifier.weight": Named(torch.cat([fast, slow], dim=1), ("d",)),
        },
        "mmaction2",
        "x",
    )
    assert ours["backbone.slow.stem.conv.weight"].keys == ("a",)
    assert torch.equal(ours["backbone.laterals.0.conv.bias"].tensor, torch.zeros(4))
    assert torch.equal(ours["classifier.weight"].tensor, torch.cat([slow, fast], dim=1))


def test_a_residual_network_does_not_become_slowfast() -> None:
    with pytest.raises(CheckpointError, match="slowfast_4x16 has other layers"):
        import_state(image_state(depth=18), backbone="slowfast_4x16")


def test_the_command_imports_a_relation_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(trn_state([4, 3, 2], 256), tmp_path / "trn.pth")
    out = tmp_path / "trn.safetensors"
    assert main(["import", str(tmp_path / "trn.pth"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "TRN-pytorch names; tsn-18 with head trn_multiscale, 7 classes" in printed
    assert load_model(out).config.frames == 16
