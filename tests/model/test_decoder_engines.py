"""The number of a GPU's decoding engines, asked from a stand-in for the driver's library."""

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.media import decoder_engines as module
from model.media.decoder_engines import DEFAULT_ENGINES, decoder_engines


class Library:
    """Answers as the header describes it: at byte 24 whether it decodes, at byte 25 the engines."""

    def __init__(self, supported: int = 1, engines: int = 7, status: int = 0) -> None:
        self.answer = bytes([supported, engines])
        self.status = status
        self.asked = b""

    def cuvidGetDecoderCaps(self, caps: Any) -> int:  # noqa: N802 - the library's name
        self.asked = ctypes.string_at(ctypes.addressof(caps._obj), 88)
        ctypes.memmove(ctypes.addressof(caps._obj) + 24, self.answer, 2)
        return self.status


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    decoder_engines.cache_clear()
    yield
    decoder_engines.cache_clear()


def test_the_driver_is_asked_about_h264(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: library)
    assert decoder_engines(torch.device("cuda", 0)) == 7
    # H.264 is number 4, 4:2:0 number 1, and 8 bits are 0; everything else is zero
    assert library.asked == struct.pack("3I", 4, 1, 0) + bytes(76)
    assert ctypes.sizeof(module._DecoderCaps) == 88


@pytest.mark.parametrize("library", [Library(supported=0), Library(engines=0), Library(status=1)])
def test_a_driver_that_does_not_answer_is_logged(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: library)
    assert decoder_engines(torch.device("cuda", 0)) == DEFAULT_ENGINES
    assert "cuda:0 is unknown (cuvidGetDecoderCaps returned" in caplog.text


def test_a_missing_library_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert decoder_engines(torch.device("cuda", 0)) == DEFAULT_ENGINES
    assert "libnvcuvid" in caplog.text
