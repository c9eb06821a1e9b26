"""Surfaces become pictures on the stream of their decoder, and are let go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from configs import DeviceMemoryError, KernelError, MediaError
from model.media.nv12 import SurfaceColours, SurfaceConverter
from model.media.nvdec import Surface
from stream.ingest.surface_frames import PictureMaker, SurfaceFrame


class Stream:
    """Notes what happens on it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Stand for a block on the stream."""
        self.events.append("enter")
        yield
        self.events.append("leave")

    def finish(self) -> None:
        """Stand for a wait."""
        self.events.append("finish")


def frame_on(stream: Any, *, turns: int = 0) -> SurfaceFrame:
    samples = torch.full((48 * 3 // 2, 64), 128, dtype=torch.uint8)
    samples[:16] = 235  # white at the top
    maker = PictureMaker(stream, 24)
    return SurfaceFrame(Surface(0, samples), 64, 48, turns, SurfaceColours(), maker)


def test_a_picture_is_made_on_the_stream_and_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    convert = SurfaceConverter.__call__

    def noted(self: SurfaceConverter, *given: Any, **named: Any) -> Any:
        stream.events.append("convert")
        return convert(self, *given, **named)

    monkeypatch.setattr(SurfaceConverter, "__call__", noted)
    frame = frame_on(stream, turns=1)
    picture = frame.picture()
    assert stream.events == ["enter", "convert", "leave", "finish"]
    assert frame.surface is None
    with pytest.raises(MediaError, match="twice"):
        frame.picture()
    assert picture.shape == (32, 24, 3)
    assert isinstance(picture, np.ndarray)
    assert (picture[:, :6] == 255).all()  # turned to the left, the top is at the left
    assert (abs(picture[:, 12:].astype(int) - 130) <= 1).all()


def test_what_the_gpu_cannot_convert_costs_a_frame_and_not_the_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception] = [
        torch.OutOfMemoryError("CUDA out of memory"),
        KernelError("no image for this device"),
        RuntimeError("something else"),
    ]
    monkeypatch.setattr(
        SurfaceConverter, "__call__", lambda *_, **__: (_ for _ in ()).throw(errors.pop(0))
    )
    with pytest.raises(DeviceMemoryError, match="no memory for a frame"):
        frame_on(Stream()).picture()
    with pytest.raises(MediaError, match="no image for this device"):
        frame_on(Stream()).picture()
    with pytest.raises(RuntimeError, match="something else"):
        frame_on(Stream()).picture()
