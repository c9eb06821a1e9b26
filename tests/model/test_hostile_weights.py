"""Weights files that describe more than they hold: each is one error, before memory is used."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs import CheckpointError
from model import ModelSpec, load_model
from model.checkpoints.importers import import_checkpoint
from model.checkpoints.weights import read_spec


@pytest.fixture(autouse=True)
def no_network_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a network with values is built; its size would be up to the file."""
    for module in ("weights", "importers"):
        monkeypatch.setattr(
            f"model.checkpoints.{module}.build_model", lambda config: pytest.fail(f"{config!r}")
        )


def described(spec: ModelSpec, **fields: Any) -> dict[str, str]:
    """Return the metadata of a file whose description has other fields of the network."""
    tree = spec.model_dump(mode="json")
    tree["model"] |= fields
    tree["labels"] = [f"class {number}" for number in range(tree["model"]["num_classes"])]
    return {"cidc": json.dumps(tree | {"background": None})}


def write(path: Path, header: dict[str, Any], data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_classes": 100_000}, "does not match the network that it describes: missing"),
        ({"width": 256, "depth": 101, "backbone": "i3d"}, "missing backbone"),
        ({"frames": 1024, "backbone": "i3d"}, "missing backbone"),
        ({"frames": 10**9}, r"model\.frames: Input should be less than or equal to 1024"),
        ({"width": 10**9}, r"model\.width: Input should be less than"),
    ],
)
def test_a_small_file_cannot_describe_a_huge_network(
    fields: dict[str, Any], says: str, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.safetensors", {"__metadata__": described(tiny_spec, **fields)})
    with pytest.raises(CheckpointError, match=says):
        load_model(path)


@pytest.mark.parametrize("shape", [[10**12, 0], [13, 10**6, 0], [0]])
def test_a_tensor_of_another_shape_is_refused_before_it_is_read(
    shape: list[int], tiny_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "model.checkpoints.weights._read_tensors", lambda path: pytest.fail("it is read")
    )
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = {"__metadata__": described(tiny_spec), "classifier.bias": tensor}
    path = write(tmp_path / "a.safetensors", header)
    with pytest.raises(
        CheckpointError, match=r"classifier\.bias has shape \(.*\), expected \(13,\)"
    ):
        load_model(path)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.complex64, torch.int32, torch.bool])
def test_numbers_of_another_kind_are_refused(
    kind: torch.dtype, tiny_weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    tensors = load_file(tiny_weights)
    tensors["classifier.bias"] = tensors["classifier.bias"].to(kind)
    save_file(tensors, path, {"cidc": read_spec(tiny_weights).model_dump_json()})
    with pytest.raises(
        CheckpointError, match=r"classifier\.bias holds .*, expected torch\.float32"
    ):
        load_model(path)


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000) + b'{"__metadata__":{"cidc":"')
        file.write(b"x" * 90_000_000)
    for read in (load_model, read_spec, import_checkpoint):
        with pytest.raises(CheckpointError, match=r"a\.safetensors .*header has more than 16 MB"):
            read(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"fps": NaN}', "9" * 5000, "null", ""])
def test_a_description_of_any_kind_is_refused(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"__metadata__": {"cidc": text}})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .* is damaged"):
        load_model(path)


def stages(*, classifier: tuple[int, ...], stem: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return what shows a ResNet-18 in torchvision's names, with as few values as possible."""
    blocks = {
        f"layer{stage}.{block}.conv1.weight": torch.zeros(1)
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
    }
    return blocks | {"conv1.weight": torch.zeros(stem), "fc.weight": torch.zeros(classifier)}


@pytest.mark.parametrize(
    ("classifier", "stem", "says"),
    [
        ((10**6, 1), (8, 3, 7, 7), "classifier.weight would have shape|conv1"),
        ((10**9, 0), (8, 3, 7, 7), "no ResNet-18, -50 or -101 with a classifier"),
        ((2, 64), (256, 0, 7, 7), "no ResNet-18, -50 or -101 with a classifier"),
        ((2, 64), (9999, 1, 1, 1), "width: Input should be less than or equal to 256"),
    ],
)
def test_a_small_checkpoint_cannot_ask_for_a_huge_network(
    classifier: tuple[int, ...], stem: tuple[int, ...], says: str, tmp_path: Path
) -> None:
    save_file(stages(classifier=classifier, stem=stem), tmp_path / "a.safetensors")
    torch.save(stages(classifier=classifier, stem=stem), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        with pytest.raises(CheckpointError, match=says):
            import_checkpoint(tmp_path / name)


def test_a_stage_number_of_any_length_is_only_a_name(tmp_path: Path) -> None:
    state = stages(classifier=(2, 64), stem=(8, 3, 7, 7))
    state[f"layer{'9' * 5000}.0.conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="would have shape"):
        import_checkpoint(tmp_path / "a.pth")
