"""Stored engines: what they depend on, and files that are damaged or belong to something else."""

import dataclasses
import hashlib
import logging
import os
import stat
from pathlib import Path

import pytest
import torch

from configs import ConfigError
from model.inference.engine_cache import (
    EngineCache,
    EngineKey,
    default_folder,
    device_facts,
    file_sha256,
)

KEY = EngineKey("weights", "11.4", "H100, compute capability 9.0", "13000", "bfloat16", 32)


def test_an_engine_comes_back_as_it_was_stored_and_only_its_owner_may_read_it(
    tmp_path: Path,
) -> None:
    cache = EngineCache(tmp_path / "new" / "folder")
    assert cache.load(KEY) is None
    plan = b"\n\x00plan\n" * 100
    cache.store(KEY, plan)
    assert cache.load(KEY) == plan
    assert stat.S_IMODE(cache.path(KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path(KEY).parent.stat().st_mode) == 0o700
    assert [path.name for path in cache.path(KEY).parent.iterdir()] == [cache.path(KEY).name]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_every_part_of_the_key_counts(field: str, tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.store(KEY, b"plan")
    value = getattr(KEY, field)
    other = dataclasses.replace(KEY, **{field: value + 1 if isinstance(value, int) else "other"})
    assert cache.load(other) is None
    # The same file under the other key's name, as after a copy by hand.
    cache.path(KEY).rename(cache.path(other))
    assert cache.load(other) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "empty", "header"])
def test_a_damaged_file_is_said_and_not_used(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(tmp_path)
    cache.store(KEY, b"a plan of some length")
    whole = cache.path(KEY).read_bytes()
    changed = bytearray(whole)
    changed[-3] ^= 1
    contents = {
        "cut": whole[:-1],
        "changed": bytes(changed),
        "longer": whole + b"x",
        "empty": b"",
        "header": b"{" + whole,
    }
    cache.path(KEY).write_bytes(contents[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.load(KEY) is None
    assert "is damaged or belongs to something else" in caplog.text
    cache.store(KEY, b"again")
    assert cache.load(KEY) == b"again"


def test_a_file_that_others_can_write_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine is a program of TensorRT; who can write it can run code as this user."""
    cache = EngineCache(tmp_path)
    cache.store(KEY, b"plan")
    path = cache.path(KEY)
    for mode in (0o620, 0o602):
        path.chmod(mode)
        assert cache.load(KEY) is None
    assert caplog.text.count("other users can write") == 2
    path.chmod(0o644)
    assert cache.load(KEY) == b"plan"
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert cache.load(KEY) == (b"plan" if owner == 0 else None)
    cache.store(KEY, b"another")
    monkeypatch.undo()
    assert cache.load(KEY) == b"another"


def test_a_folder_that_cannot_be_written_is_said_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = EngineCache(tmp_path / "file" / "folder")
    with caplog.at_level(logging.WARNING):
        cache.store(KEY, b"plan")
        assert cache.load(KEY) is None
    assert "infer.engine_cache" in caplog.text


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", f"{os.sep}somewhere")
    assert default_folder() == Path("/somewhere/.cache/cidc-stream/engines")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match=r"infer\.engine_cache"):
        default_folder()


def test_the_facts_about_the_device_name_driver_and_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13020, raising=False)
    device, driver = device_facts(torch.device("cuda"))
    assert device == "NVIDIA H100 80GB HBM3, compute capability 9.0"
    assert driver == f"driver CUDA 13020, CUDA 13.0, PyTorch {torch.__version__}"


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
