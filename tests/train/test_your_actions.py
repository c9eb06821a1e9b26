"""The commands of the page about public checkpoints, in order, with random weights."""

import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import model.__main__
import stream.__main__
import train.__main__
from configs import example_path
from model import load_model
from tests import ROOT
from tests.support.public_layout import mmaction2_state
from tests.test_docs import commands

PAGE = ROOT / "docs/your-actions.md"
SMALL = (
    *("preprocess.short_side=37", "preprocess.height=32", "preprocess.width=32"),
    *("data.short_side_min=37", "data.short_side_max=40", "data.workers=0", "model.width=8"),
    *("optimiser.epochs=2", "optimiser.batch=3", "features.views=2", "device=cpu"),
)


def write_video(path: Path, seed: int, frames: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 15, (64, 48))  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()


@pytest.mark.slow
def test_every_command_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for name in ("stream.yaml", "from-kinetics.yaml"):
        shutil.copy(example_path(name), tmp_path / "configs")
    torch.save({"state_dict": mmaction2_state()}, "i3d_k400.pth")
    write_video(tmp_path / "door.mp4", 0)
    for number in range(8):
        label = ("wave", "clap")[number % 2]
        write_video(tmp_path / f"videos/{label}/{number}.mp4", number)
    small = [part for setting in SMALL for part in ("--set", setting)]
    live = ["--summary", "summary.json"]
    for setting in ("cameras=[{id: door, url: door.mp4, pace: fast}]", "http.port=0"):
        live += ["--set", setting]
    programs = {"model": model.__main__.main, "train": train.__main__.main}
    lines = commands(PAGE)
    assert len(lines) == 7
    for package, line in lines:
        arguments = shlex.split(line)
        if package == "stream":
            assert stream.__main__.main([*arguments, *live]) == 0
            summary = json.loads(Path("summary.json").read_text())
            assert summary["cameras"]["door"]["clips"] > 0 or summary["clips"] > 0
            continue
        extra = ["--size", "32"] if package == "model" else small if "--config" in line else []
        assert programs[package]([*arguments, *extra]) == 0, line
    spec = load_model("i3d-k400.safetensors").spec
    assert spec is not None
    assert (spec.labels[0], spec.labels[-1], len(spec.labels)) == ("abseiling", "zumba", 400)
    best = load_model(".work/runs/from-kinetics/best.safetensors")
    assert best.spec is not None
    assert best.spec.labels == ("clap", "wave")
    # The backbone is that of the checkpoint, statistics of batch norms included.
    source = load_model("i3d-k400.safetensors").backbone.state_dict()
    for name, tensor in best.backbone.state_dict().items():
        assert torch.equal(tensor, source[name]), name
    assert "cache_megabytes" in capsys.readouterr().out


@pytest.mark.parametrize("backbone", ["i3d", "slow_only"])
def test_the_layout_tells_the_backbone_and_keeps_the_logits(
    backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = mmaction2_state(backbone, seed=4)
    torch.save(state, tmp_path / "net.pth")
    out = tmp_path / "net.safetensors"
    arguments = ["--labels", "kinetics400", "--out", str(out), "--size", "64"]
    assert model.__main__.main(["import", str(tmp_path / "net.pth"), *arguments]) == 0
    assert f"mmaction2 names; {backbone}-50, 400 classes" in capsys.readouterr().out
    network = load_model(out)
    assert network.config.backbone == backbone
    assert torch.equal(network.classifier.bias, state["cls_head.fc_cls.bias"])


def test_labels_that_ship_are_400_names_in_order() -> None:
    from model.checkpoints.label_names import read_labels

    labels = read_labels(Path("kinetics400"))
    assert len(set(labels)) == 400
    assert list(labels) == sorted(labels)


@pytest.mark.parametrize(
    ("state", "arguments", "says"),
    [
        ("other", [], "its names are of none of the packages"),
        ("seven", ["--labels", "kinetics400"], "400 labels for 7 classes"),
        ("seven", ["--labels", "kinetics600"], "lists that ship: kinetics400"),
        ("lacking", [], "does not fit completely"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_error(
    state: str,
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = mmaction2_state(classes=7)
    if state == "other":
        tensors = {f"net.{name}": value for name, value in tensors.items()}
    elif state == "lacking":
        del tensors["backbone.conv1.bn.running_mean"]
    torch.save(tensors, tmp_path / "net.pth")
    out = ["--out", str(tmp_path / "net.safetensors")]
    assert model.__main__.main(["import", str(tmp_path / "net.pth"), *out, *arguments]) == 2
    assert says in capsys.readouterr().err
