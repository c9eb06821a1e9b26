"""The methods of a pipeline with which a program pushes frames."""

from __future__ import annotations

from typing import Any

from stream.ingest.pushed_frames import PushedFrames

__all__ = ["FrameEntry"]


class FrameEntry:
    """The part of a pipeline that takes frames which a program decoded itself."""

    _pushed: PushedFrames

    def push(
        self,
        camera: str,
        frame: Any,
        pts_seconds: float,
        *,
        wall_seconds: float | None = None,
        timeout_seconds: float | None = None,
    ) -> bool:
        """Give a frame that was decoded elsewhere to a camera with `url: push:`.

        Frames get the same clips and events as those of other cameras. The frame is copied. Any
        thread may call this, also before `run`; the frames of one camera come in the order of their
        times.

        Args:
            camera: its id.
            frame: RGB, uint8 `H W 3`: a NumPy array, or an object in host memory with `__array__`
                or `__dlpack__`. It is scaled down if it is larger than needed.
            pts_seconds: presentation time of the frame in its video.
            wall_seconds: when it was taken, in seconds since 1970; None for now.
            timeout_seconds: maximum time to wait while the pipeline is behind. None: no time for a
                live camera (`pace: realtime`), which cannot wait; as long as it takes for a
                recording (`pace: fast`), which must not lose a frame.

        Returns:
            Whether the frame was taken. If not, it is counted in `cidc_dropped_frames_total` with
            the reason `behind`, or `not_open` for a camera that is starting or paused.

        Raises:
            ShapeError: the frame has another shape or dtype, is too large, or lies on a GPU.
            DataError: a time is not a finite number.
            CameraError: there is no such camera, it has another address, it has ended, or the
                pipeline has stopped.
        """
        return self._pushed.push(
            camera, frame, pts_seconds, wall_seconds=wall_seconds, timeout_seconds=timeout_seconds
        )

    def end(self, camera: str) -> None:
        """Say that no more frames are pushed for a camera; those that were pushed are analysed.

        Raises:
            CameraError: as for `push`.
        """
        self._pushed.end(camera)
