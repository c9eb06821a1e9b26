"""Importers against the public packages' own networks, and against files that do not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from configs import CheckpointError
from model import ModelConfig, build_model, load_model
from model.__main__ import main
from model.checkpoints.importers import import_checkpoint, import_state
from tests.support import public_nets

needs_public_nets = pytest.mark.skipif(
    not public_nets.installed(), reason="public networks are not installed; run make public-nets"
)


def clip(side: int) -> torch.Tensor:
    return torch.randn(1, 3, 32, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@needs_public_nets
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(public_nets.PUBLIC_NETS))
@torch.no_grad()
def test_an_imported_network_gives_the_logits_of_the_public_one(name: str) -> None:
    theirs, about = public_nets.build(name)
    public_nets.randomise(theirs, seed=len(name))
    imported = import_state(theirs.state_dict(), name=name)
    assert imported.missing == imported.left_over == imported.inflated == ()
    clips = clip(about.side or 64)
    frames = clips[:, :, :: 32 // about.frames].clone()
    expected = (
        torch.stack([theirs(frame) for frame in frames.unbind(2)]).mean(dim=0)
        if about.images
        else about.logits(theirs, frames)
    )
    assert expected.std() > 0.5
    torch.testing.assert_close(imported.network(clips), expected, atol=1e-4, rtol=0)


def image_state(depth: int = 50) -> dict[str, torch.Tensor]:
    """The weights of a 2D net under torchvision's names, made from ours."""
    torch.manual_seed(0)
    source = build_model(
        ModelConfig(backbone="tsn", depth=depth, cidc=None, width=8, num_classes=7)
    ).state_dict()  # type: ignore[arg-type]
    state = {}
    for key, value in source.items():
        key = (
            key.replace("backbone.stem.conv", "conv1")
            .replace("backbone.stem.norm", "bn1")
            .replace("classifier", "fc")
        )
        for stage in range(4):
            key = key.replace(f"backbone.stages.{stage}.", f"layer{stage + 1}.")
        key = key.replace("shortcut.conv", "downsample.0").replace("shortcut.norm", "downsample.1")
        for number in "123":
            key = key.replace(f"conv{number}.conv", f"conv{number}").replace(
                f"conv{number}.norm", f"bn{number}"
            )
        state[key] = value.squeeze(2) if value.dim() == 5 else value
    return state


@pytest.mark.parametrize("backbone", ["i3d", "slow_only"])
def test_inflated_weights_sum_to_the_2d_ones(backbone: str) -> None:
    state = image_state()
    imported = import_state(state, backbone=backbone)  # type: ignore[arg-type]
    assert imported.missing == imported.left_over == ()
    inflated = set(imported.inflated)
    assert ("conv1.weight" in inflated) == (backbone == "i3d")
    assert {"layer4.1.conv1.weight"} <= inflated
    for key, ours in (
        ("layer4.1.conv1.weight", imported.network.backbone.stages[3][1].conv1.conv.weight),
    ):  # type: ignore[index, union-attr]
        assert ours.shape[2] == 3
        torch.testing.assert_close(ours.sum(dim=2), state[key])


@torch.no_grad()
def test_an_inflated_stem_treats_a_still_clip_as_the_2d_one_treats_its_frame() -> None:
    state = image_state(depth=18)
    imported = import_state(state, backbone="i3d")
    frame = torch.randn(1, 3, 48, 48)
    still = frame.unsqueeze(2).expand(-1, -1, 32, -1, -1)
    ours = imported.network.backbone.stem.conv(still)
    theirs = torch.nn.functional.conv2d(frame, state["conv1.weight"], stride=2, padding=3)
    # The first and last steps see zeros beyond the clip.
    torch.testing.assert_close(
        ours[:, :, 1:-1],
        theirs.unsqueeze(2).expand(-1, -1, ours.shape[2] - 2, -1, -1),
        atol=1e-5,
        rtol=1e-4,
    )


def test_missing_and_left_over_tensors_are_reported() -> None:
    state = image_state(depth=18)
    del state["layer2.0.bn1.running_var"]
    state["optimizer_step"] = torch.zeros(1)
    imported = import_state(state)
    assert imported.missing == ("backbone.stages.1.0.conv1.norm.running_var",)
    assert imported.left_over == ("optimizer_step",)
    assert len(imported.used) == len(state) - 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model_state": {"module." + k: v for k, v in s.items()}},
    ],
)
def test_files_are_unwrapped(wrap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    state = image_state(depth=18)
    torch.save(wrap(state), tmp_path / "net.pth")
    imported = import_checkpoint(tmp_path / "net.pth")
    torch.testing.assert_close(imported.network.classifier.weight, state["fc.weight"])
    assert imported.missing == imported.left_over == ()


class Bomb:
    """Pickles to a call that makes a file."""

    marker = ""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return open, (self.marker, "w")


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    Bomb.marker = str(tmp_path / "ran")
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match=name):
            import_checkpoint(tmp_path / name)
    assert not Path(Bomb.marker).exists()


def broken(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "shape":
        state["layer1.0.conv1.weight"] = torch.zeros(3, 3, 3, 3)
    elif how == "nan":
        state["fc.bias"][0] = float("nan")
    elif how == "blocks":
        state = {key: value for key, value in state.items() if not key.startswith("layer3.1")}
    elif how == "classifier":
        del state["fc.weight"]
    elif how == "names":
        state = {"a": torch.zeros(1)}
    elif how == "one class":
        state["fc.weight"], state["fc.bias"] = state["fc.weight"][:1], state["fc.bias"][:1]
    elif how == "flat":
        state["fc.weight"] = torch.zeros(())
    elif how == "integers":
        state["bn1.bias"] = torch.zeros(8, dtype=torch.int8)
    return state


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("shape", "layer|stages.0.0.conv1"),
        ("nan", "not finite"),
        ("blocks", "no ResNet"),
        ("classifier", "classifier"),
        ("names", "none of the packages"),
        ("one class", "num_classes"),
        ("flat", "classifier"),
        ("integers", "int8"),
    ],
)
def test_a_file_of_something_else_is_one_clear_error(how: str, says: str, tmp_path: Path) -> None:
    save_file(
        {k: v.contiguous() for k, v in broken(image_state(depth=18), how).items()},
        tmp_path / "x.safetensors",
    )
    with pytest.raises(CheckpointError, match=says):
        import_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated", b"\x80\x02.", b"\x80\x02K\x01s."]
)
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        import_checkpoint(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="not found"):
        import_checkpoint(tmp_path / "absent.pth")


def test_the_command_writes_weights_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(
        {"state_dict": image_state(depth=18) | {"extra": torch.zeros(1)}}, tmp_path / "net.pth"
    )
    # as an editor on Windows writes it, with a byte-order mark
    (tmp_path / "labels.txt").write_bytes("\ufeffa\r\nb \r\nc\r\n\r\nd\r\ne\r\nf\r\ng".encode())
    out = tmp_path / "net.safetensors"
    command = [
        "import",
        str(tmp_path / "net.pth"),
        "--out",
        str(out),
        "--backbone",
        "i3d",
        "--labels",
        str(tmp_path / "labels.txt"),
        "--size",
        "112",
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "torchvision names; i3d-18, 7 classes" in printed
    assert "left over: 1 tensors: extra" in printed
    spec = load_model(out).spec
    assert spec is not None
    assert spec.labels == tuple("abcdefg")
    assert (spec.preprocess.short_side, spec.preprocess.height) == (128, 112)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert main(command) == 2
    assert "2 labels for 7 classes" in capsys.readouterr().err


def test_a_checkpoint_that_fits_in_part_is_imported_only_with_partial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squeezed = image_state(depth=18) | {"layer1.0.se.fc1.weight": torch.zeros(1)}
    lacking = {
        key: value for key, value in image_state(depth=18).items() if "running_mean" not in key
    }
    for state, named in ((squeezed, "layer1.0.se.fc1.weight"), (lacking, "stem.norm.running_mean")):
        torch.save(state, tmp_path / "net.pth")
        command = ["import", str(tmp_path / "net.pth"), "--out", str(tmp_path / "net.safetensors")]
        assert main(command) == 2
        assert named in capsys.readouterr().err
        assert not (tmp_path / "net.safetensors").exists()
        assert main([*command, "--partial"]) == 0
        (tmp_path / "net.safetensors").unlink()


def test_labels_and_size_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(image_state(depth=18), tmp_path / "net.pth")
    command = ["import", str(tmp_path / "net.pth"), "--out", str(tmp_path / "net.safetensors")]
    (tmp_path / "latin").write_bytes("caf\xe9\n".encode("latin-1"))
    (tmp_path / "empty").write_text("")
    for extra, says in (
        (["--labels", "latin"], "latin, line 1: not UTF-8"),
        (["--labels", "empty"], "0 labels"),
        (["--size", "20"], "--size must be"),
    ):
        values = [
            str(tmp_path / value) if value in ("latin", "empty") else value for value in extra
        ]
        assert main([*command, *values]) == 2
        assert says in capsys.readouterr().err
