"""Sizes that depend on the device."""

from types import SimpleNamespace

import pytest
import torch

from stream.analysis.config import BatchConfig, BatchSizes


def test_the_defaults_suit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=8 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    sizes = BatchConfig().sizes
    assert sizes(torch.device("cpu")) == BatchSizes(8, 16)
    assert sizes(torch.device("cuda")) == BatchSizes(16, 64)
    memory.total_memory = 80 << 30
    assert sizes(torch.device("cuda")) == BatchSizes(32, 64)


def test_what_is_set_holds_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    for device in ("cpu", "cuda"):
        assert BatchConfig(max_batch=3).sizes(torch.device(device)).max_batch == 3
        assert BatchConfig(frames_at_once=5).sizes(torch.device(device)).frames_at_once == 5
