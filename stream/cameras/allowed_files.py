"""Which files and devices of this machine a camera may name if it was described over HTTP."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs import ConfigError
from stream.cameras.config import CameraConfig, redact_url
from stream.ingest.config import SourceConfig

__all__ = ["AllowedFiles"]


class AllowedFiles:
    """The files that callers of the HTTP interface may name: those below `http.files`.

    Whoever may add a camera could otherwise read any file of the service: FFmpeg shows text files
    as video. What the configuration file itself gives a camera stays allowed for this camera.

    Paths must be absolute: FFmpeg may read a relative one as a protocol and its argument.

    Args:
        entries: folders and files below which every path must lie; links are followed.
        configured: the cameras of the configuration file.
        source: the section `source` of all cameras.
    """

    def __init__(
        self, entries: Sequence[Path], configured: Sequence[CameraConfig], source: SourceConfig
    ) -> None:
        self._entries = tuple(entries)
        self._configured = {camera.id: camera for camera in configured}
        self._authorities = source.tls_ca_file
        self._program = source.ffmpeg

    def check(self, camera: CameraConfig) -> None:
        """Check every path that a camera names.

        Whether a path is allowed is decided before anything asks whether it exists: the answer for
        a path outside is the same in both cases, and does not tell where links lead.

        Raises:
            ConfigError: a path lies outside, or its file is a pipe, a socket or a device; or the
                camera names a program that the configuration file does not.
        """
        before = self._configured.get(camera.id)
        if _program(camera) not in {None, self._program, _program(before)}:
            raise ConfigError(
                f"camera {camera.id}: source.ffmpeg names a program to run; only the configuration"
                " file may do that"
            )
        for path, shown in self._new_paths(camera):
            if not path.startswith("/"):
                raise ConfigError(
                    f"camera {camera.id}: {shown} is relative to a folder that callers over HTTP"
                    " cannot know; write the whole path, from / on"
                )
            if not self._contains(path):
                raise ConfigError(
                    f"camera {camera.id}: {shown} is outside the files that cameras added or"
                    " changed over HTTP may use; add its folder to http.files to allow it"
                )
            if path != camera.url or camera.is_file:
                _check_kind(path, f"camera {camera.id}: {shown}")

    def _new_paths(self, camera: CameraConfig) -> Iterator[tuple[str, str]]:
        """Yield each path that the configuration file does not give, and how messages show it."""
        before = self._configured.get(camera.id)
        is_new = before is None or camera.url != before.url
        if camera.kind in ("file", "device") and is_new:
            yield camera.url, redact_url(camera.url)
        authorities = _authorities(camera)
        known = {self._authorities, _authorities(before)}
        if authorities is not None and authorities not in known:
            yield authorities, f"source.tls_ca_file {authorities}"

    def _contains(self, path: str) -> bool:
        try:
            real = Path(os.path.realpath(path))
        except ValueError:  # a path that no file can have
            return False
        return any(real.is_relative_to(os.path.realpath(entry)) for entry in self._entries)


def _authorities(camera: CameraConfig | None) -> str | None:
    if camera is None or camera.source is None:
        return None
    return camera.source.tls_ca_file


def _program(camera: CameraConfig | None) -> Path | None:
    if camera is None or camera.source is None:
        return None
    return camera.source.ffmpeg


def _check_kind(path: str, shown: str) -> None:
    """Check that a path is a regular file, a folder, or nothing yet.

    A reader that opens a pipe waits for its other end, in a call that nothing interrupts.

    Raises:
        ConfigError: it is something else.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return  # reported as missing, by whoever checks the camera's other settings
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ConfigError(
            f"{shown} is a pipe, a socket or a device; over HTTP name a regular file, or a camera"
            " of this machine as /dev/video0"
        )
