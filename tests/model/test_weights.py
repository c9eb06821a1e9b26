import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from configs import CheckpointError
from model import ModelSpec, build_model, load_model, save_model
from model.__main__ import main
from model.checkpoints.weights import read_spec, replace_spec


def test_a_saved_network_comes_back_the_same(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    network = build_model(tiny_spec.model).eval()
    path = tmp_path / "a.safetensors"
    save_model(network, path, spec=tiny_spec)
    loaded = load_model(path)
    assert loaded.spec == tiny_spec
    clips = torch.randn(1, 3, 32, 48, 80)
    assert torch.equal(loaded(clips), network(clips))
    assert not list(tmp_path.glob("*.part"))


def test_half_precision_weights_load_as_float32(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    network = build_model(tiny_spec.model)
    save_model(network, tmp_path / "h.safetensors", spec=tiny_spec, dtype=torch.bfloat16)
    loaded = load_model(tmp_path / "h.safetensors")
    for name, value in loaded.state_dict().items():
        assert value.dtype == network.state_dict()[name].dtype
        torch.testing.assert_close(value, network.state_dict()[name], atol=0, rtol=2**-8)


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def damage_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def damage_no_description(path: Path) -> None:
    save_file(load_file(path), path)


def damage_shape(path: Path) -> None:
    metadata = {"cidc": read_spec(path).model_dump_json()}
    tensors = load_file(path)
    tensors["classifier.weight"] = torch.zeros(2, 2)
    save_file(tensors, path, metadata)


def damage_missing(path: Path) -> None:
    metadata = {"cidc": read_spec(path).model_dump_json()}
    tensors = load_file(path)
    del tensors["classifier.bias"]
    save_file(tensors, path, metadata)


def damage_nan(path: Path) -> None:
    metadata = {"cidc": read_spec(path).model_dump_json()}
    tensors = load_file(path)
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, path, metadata)


def damage_pickle(path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, path)


DAMAGES = [
    damage_flip,
    damage_truncate,
    damage_header,
    damage_no_description,
    damage_shape,
    damage_missing,
    damage_nan,
    damage_pickle,
    Path.unlink,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda function: function.__name__)
def test_damage_is_one_clear_error_that_names_the_file(
    damage, tiny_weights: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(tiny_weights.read_bytes())
    damage(path)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_model(path)


def test_a_description_of_another_network_is_refused(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    other = build_model(tiny_spec.model.model_copy(update={"width": 16}))
    with pytest.raises(CheckpointError, match="another network"):
        save_model(other, tmp_path / "x.safetensors", spec=tiny_spec)


def test_labels_must_fit_the_network(tiny_spec: ModelSpec) -> None:
    with pytest.raises(ValueError, match="3 labels for 13 classes"):
        ModelSpec.model_validate(tiny_spec.model_dump() | {"labels": ("background", "b", "c")})


@pytest.mark.parametrize("char", ["\n", "\x1b", "\x7f", "\x9b", "\u202e"])
def test_names_and_labels_with_control_characters_are_refused(
    tiny_spec: ModelSpec, char: str
) -> None:
    labels = ("background", f"a{char}", *tiny_spec.labels[2:])
    for changes in ({"labels": labels}, {"name": f"a{char}"}):
        with pytest.raises(ValueError, match=r"'a\\.+' contains a control character"):
            ModelSpec.model_validate(tiny_spec.model_dump() | changes)


@pytest.mark.parametrize("weights", ["scenes-r2d18-cidc", Path("scenes-r2d18-cidc")], ids=repr)
def test_weights_that_ship_load_by_their_name(weights: str | Path) -> None:
    assert read_spec(weights).name == "scenes-r2d18-cidc"
    network = load_model(weights)
    assert network.spec is not None
    assert network.spec.name == "scenes-r2d18-cidc"


@pytest.mark.parametrize("weights", ["scenes-r2d", "../pretrained/scenes-r2d18-cidc", "", "."])
def test_an_unknown_name_lists_those_that_ship(weights: str) -> None:
    for load in (load_model, read_spec):
        with pytest.raises(CheckpointError, match="a name that ships: scenes-r2d18-cidc"):
            load(weights)


@pytest.mark.parametrize("command", ["maps", "export"])
def test_commands_take_the_name_of_weights_that_ship(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--video", str(tmp_path / "none.mp4")] if command == "maps" else []
    out = tmp_path / ("x.png" if command == "maps" else "missing/x.onnx")
    assert main([command, "--checkpoint", "no-such", "--out", str(out), *options]) == 2
    assert "a name that ships: scenes-r2d18-cidc" in capsys.readouterr().err
    if command == "maps":
        assert (
            main([command, "--checkpoint", "scenes-r2d18-cidc", "--out", str(out), *options]) == 2
        )
        assert "none.mp4" in capsys.readouterr().err


def test_a_temperature_is_kept_and_files_without_one_have_1(
    tiny_spec: ModelSpec, tiny_weights: Path, tmp_path: Path
) -> None:
    with safe_open(tiny_weights, "pt") as file:
        assert "temperature" not in json.loads(file.metadata()["cidc"])
    assert read_spec(tiny_weights).temperature == 1
    path = tmp_path / "calibrated.safetensors"
    calibrated = tiny_spec.model_copy(update={"temperature": 1.75})
    replace_spec(tiny_weights, path, spec=calibrated)
    assert load_model(path).spec == calibrated
    before, after = load_file(tiny_weights), load_file(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    replace_spec(path, path, spec=tiny_spec)  # in place
    assert path.read_bytes() == tiny_weights.read_bytes()
    other = tiny_spec.model.model_copy(update={"width": 16})
    with pytest.raises(CheckpointError, match="of another network"):
        replace_spec(path, path, spec=tiny_spec.model_copy(update={"model": other}))


@pytest.mark.parametrize("temperature", [0, -1, 1e9, "hot"])
def test_a_temperature_that_cannot_be_used_is_refused(
    temperature: object, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    description = json.loads(tiny_spec.model_dump_json()) | {"temperature": temperature}
    path = tmp_path / "bad.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"cidc": json.dumps(description)})
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: temperature: "):
        read_spec(path)
