"""Frames that a program decoded elsewhere and pushes into the pipeline, camera by camera."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import CameraError, DataError, MediaError, ShapeError
from model.media.source_rules import check_frame_size
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.pushed_camera import PushedCamera
from stream.metrics import Metrics

__all__ = ["PushedFrames", "rgb_frame"]

_LOOK_SECONDS = 0.25


class PushedFrames:
    """Brings pushed frames to their cameras. Any thread may call its methods.

    Args:
        find: returns the settings of a camera; None if there is none of this name.
        source: the section of all cameras, for cameras without their own.
        is_over: whether the pipeline is stopping or has stopped.
    """

    def __init__(
        self,
        find: Callable[[str], CameraConfig | None],
        source: SourceConfig,
        metrics: Metrics,
        is_over: Callable[[], bool],
    ) -> None:
        self._find = find
        self._source = source
        self._metrics = metrics
        self._is_over = is_over
        self._open: dict[str, PushedCamera] = {}
        self._changed = threading.Condition()
        self._ended: set[str] = set()
        self._ending: set[str] = set()  # those that were ended before they opened

    def open(self, camera: PushedCamera) -> None:
        """Note that a camera takes frames now."""
        camera_id = camera.camera.id
        with self._changed:
            if camera_id in self._ending:
                self._ending.discard(camera_id)
                camera.end()
                return
            self._open[camera_id] = camera
            self._ended.discard(camera_id)
            self._changed.notify_all()

    def close(self, camera: PushedCamera) -> None:
        """Note that a camera takes no more frames, unless it was opened again since."""
        with self._changed:
            if self._open.get(camera.camera.id) is camera:
                del self._open[camera.camera.id]

    def push(
        self,
        camera: str,
        frame: Any,
        pts_seconds: float,
        *,
        wall_seconds: float | None = None,
        timeout_seconds: float | None = None,
    ) -> bool:
        """Push a frame; see `stream.Pipeline.push`."""
        config = self._checked(camera)
        frame_HWC = rgb_frame(frame, f"camera {camera}")
        _check_times(camera, pts_seconds, wall_seconds, timeout_seconds)
        height, width = frame_HWC.shape[:2]
        try:
            check_frame_size(width, height, (config.source or self._source).max_pixels)
        except MediaError as error:
            raise ShapeError(f"camera {camera}: {error}") from None
        if timeout_seconds is None:
            timeout_seconds = math.inf if config.pace == "fast" else 0.0
        deadline = time.monotonic() + timeout_seconds
        opened = self._wait_until_open(camera, deadline)
        if opened is None:
            self._metrics.dropped_frames.labels(camera, "not_open").inc()
            return False
        return opened.push(
            frame_HWC,
            float(pts_seconds),
            wall_seconds=time.time() if wall_seconds is None else float(wall_seconds),
            timeout_seconds=max(0.0, deadline - time.monotonic()),
        )

    def end(self, camera: str) -> None:
        """End a camera; see `stream.Pipeline.end`."""
        self._checked(camera)
        with self._changed:
            self._ended.add(camera)
            opened = self._open.get(camera)
            if opened is None:
                self._ending.add(camera)
            else:
                opened.end()

    def _checked(self, camera: str) -> CameraConfig:
        """Return the settings of a camera that takes frames.

        Raises:
            CameraError: there is no such camera, its frames are not pushed, or it has ended.
        """
        if self._is_over():
            raise CameraError("the pipeline has stopped and takes no more frames", "stopping")
        config = self._find(camera)
        if config is None:
            raise CameraError(f"there is no camera {camera!r}; add it, with url: push:", "unknown")
        if config.kind != "push":
            raise CameraError(
                f"camera {camera}: its frames are not pushed but read from its address; set url:"
                " push: to push them",
                "invalid",
            )
        if camera in self._ended:
            raise CameraError(
                f"camera {camera} has ended and takes no more frames; add another camera for"
                " another video",
                "stopping",
            )
        return config

    def _wait_until_open(self, camera: str, deadline: float) -> PushedCamera | None:
        """Return an open camera; None if it does not open in time. It may start or be paused."""
        with self._changed:
            while (opened := self._open.get(camera)) is None:
                self._checked(camera)
                if (seconds := deadline - time.monotonic()) <= 0:
                    return None
                self._changed.wait(min(_LOOK_SECONDS, seconds))
            return opened


def rgb_frame(frame: Any, name: str) -> NDArray[np.uint8]:
    """Return a frame as a C-contiguous array, uint8 `H W 3`; without a copy if it is one.

    Args:
        frame: an array, or an object in host memory with `__array__` or `__dlpack__`.
        name: of its camera, for messages.

    Raises:
        ShapeError: it is not such a frame; the message names its shape and dtype.
    """
    expected = "a frame is an RGB array in host memory, uint8 H W 3"
    try:
        if isinstance(frame, np.ndarray) or hasattr(frame, "__array__"):
            array = np.asarray(frame)
        elif hasattr(frame, "__dlpack__"):
            array = np.from_dlpack(frame)
        else:
            raise TypeError(f"{type(frame).__name__} is not an array")
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise ShapeError(f"{name}: {expected}; got {_described(frame)}: {error}") from None
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ShapeError(f"{name}: {expected}; got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array)


def _described(frame: Any) -> str:
    shape = getattr(frame, "shape", None)
    if shape is None:
        return f"an object of type {type(frame).__name__}"
    device = f" on {frame.device}" if hasattr(frame, "device") else ""
    return f"{getattr(frame, 'dtype', 'unknown dtype')} of shape {tuple(shape)}{device}"


def _check_times(
    camera: str, pts_seconds: float, wall_seconds: float | None, timeout_seconds: float | None
) -> None:
    """Check that times are numbers.

    Raises:
        DataError: one is not.
    """
    times = {"pts_seconds": pts_seconds}
    if wall_seconds is not None:
        times["wall_seconds"] = wall_seconds
    for name, value in times.items():
        if not (_is_number(value) and math.isfinite(value)):
            raise DataError(f"camera {camera}: {name} must be a finite number, got {value!r}")
    if timeout_seconds is not None and not (_is_number(timeout_seconds) and timeout_seconds >= 0):
        raise DataError(
            f"camera {camera}: timeout_seconds must be 0 or more, got {timeout_seconds!r}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
