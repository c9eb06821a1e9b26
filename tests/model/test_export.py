"""ONNX against ONNX Runtime, an implementation that shares nothing with PyTorch's."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from configs import CheckpointError, CidcError
from model import CIDCConfig, ModelConfig, ModelSpec, build_model, load_model
from model.__main__ import main
from model.checkpoints.export import export_onnx
from model.media.preprocess import PreprocessConfig
from tests.model.test_conv import settle

pytestmark = pytest.mark.slow

PICTURE = PreprocessConfig(short_side=48, height=48, width=64)


def network(**fields: object):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"depth": 18, "width": 8, "num_classes": 5} | fields)
    net = build_model(config)
    settle(net)
    for block in getattr(net.backbone, "non_local", {}).values():
        block.theta.conv.weight.data.mul_(0.02)  # type: ignore[operator, union-attr]
    net.spec = ModelSpec(name="x", model=config, labels=tuple("abcde"), preprocess=PICTURE)
    return net


@pytest.mark.parametrize(
    "fields",
    [
        {"backbone": "i3d", "depth": 50},
        {
            "entry": "pooled",
            "cidc": CIDCConfig(
                direction="uni", normalisation="minmax", fusion="channels", t_hidden=6
            ),
        },
        {
            "backbone": "slow_only",
            "non_local": True,
            "cidc": CIDCConfig(direction="none", fusion="sum", scales="single"),
        },
        {"backbone": "tsm", "cidc": None, "head": "lstm"},
        {"cidc": None, "head": "self_attention", "non_local": True, "non_local_pooling": "before"},
        {"backbone": "slowfast_4x16", "cidc": None, "head": "trn_multiscale"},
        {"backbone": "blvnet_tam", "depth": 50, "cidc": None, "head": "filter_bank"},
    ],
    ids=["i3d-50", "uni", "slow-nl", "tsm-lstm", "attention", "slowfast-trn", "blvnet-filters"],
)
def test_onnx_runtime_computes_the_same_for_any_batch(
    fields: dict[str, object], tmp_path: Path
) -> None:
    net = network(**fields)
    path = tmp_path / "net.onnx"
    export_onnx(net, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        clips = np.random.default_rng(batch).normal(size=(batch, 3, 32, 48, 64)).astype(np.float32)
        with torch.no_grad():
            expected = net(torch.from_numpy(clips)).numpy()
        (found,) = session.run(["logits_BK"], {"clips_BCTHW": clips})
        assert expected.std() > 0
        np.testing.assert_allclose(found, expected, atol=2e-4 * max(1, abs(expected).max()), rtol=0)


def test_the_file_holds_plain_operators_and_its_description(tmp_path: Path) -> None:
    export_onnx(network(), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    description = json.loads({entry.key: entry.value for entry in model.metadata_props}["cidc"])
    assert description["labels"] == list("abcde")


def test_the_command_tells_the_difference(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export", "--checkpoint", str(tiny_weights), "--out", str(tmp_path / "t.onnx")]) == 0
    )
    said = capsys.readouterr().out
    assert "largest difference" in said
    assert "probabilities are softmax(logits_BK)" in said


def test_without_the_extra_the_error_names_it(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(CidcError, match=r"cidc-stream\[onnx\]"):
        export_onnx(load_model(tiny_weights), tmp_path / "t.onnx")


@pytest.mark.parametrize("wrong", [np.nan, 0.0])
def test_a_file_that_computes_something_else_is_not_written(
    wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def __init__(self, *args: object, **options: object) -> None: ...

        def run(self, names: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(feed["clips_BCTHW"]), 5), wrong, np.float32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(CheckpointError, match="is not written"):
        export_onnx(network(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_refused(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="needs a name in UTF-8"):
        export_onnx(load_model(tiny_weights), tmp_path / "\udcff.onnx")
