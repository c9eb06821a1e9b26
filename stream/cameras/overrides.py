"""What was changed over HTTP, saved in a file so that a restart does not undo it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import ConfigError, check_tree, is_file, write_file
from configs.private_files import PRIVATE_FILE
from stream.cameras.config import CameraConfig

__all__ = ["CameraOverrides"]

_log = logging.getLogger(__name__)


class CameraOverrides:
    """Cameras that differ from the configuration file: added, changed, removed, paused.

    The file may hold passwords; only its owner may read it. Without a file nothing is kept.

    Raises:
        ConfigError: the file is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._cameras: dict[str, CameraConfig | None] = {}
        self._paused: set[str] = set()
        self._configured: dict[str, CameraConfig] = {}
        if path is not None and is_file(path):
            self._read()

    def apply(self, cameras: Sequence[CameraConfig]) -> list[CameraConfig]:
        """The cameras of the configuration file as they are after all changes; these are logged."""
        self._configured = {camera.id: camera for camera in cameras}
        if (differences := self.summary()) is not None:
            _log.warning("%s", differences)
        merged = dict(self._configured)
        for camera_id, camera in self._cameras.items():
            if camera is None:
                merged.pop(camera_id, None)
            else:
                merged[camera_id] = camera
        return list(merged.values())

    def unchanged(self, cameras: Sequence[CameraConfig]) -> list[CameraConfig]:
        """Those of the cameras that are as the configuration file has them."""
        return [camera for camera in cameras if not self.changed(camera.id)]

    def changed(self, camera_id: str) -> bool:
        """Whether the camera is not as the configuration file has it."""
        return camera_id in self._cameras

    def summary(self) -> str | None:
        """What differs from the configuration file, in one line; None if nothing does."""
        changes: dict[str, list[str]] = {"removed": [], "changed": [], "added": []}
        for camera_id, camera in self._cameras.items():
            if camera is None:
                changes["removed"].append(camera_id)
            elif (configured := self._configured.get(camera_id)) is not None:
                note = "" if camera.url == configured.url else " (also its address)"
                changes["changed"].append(camera_id + note)
            else:
                changes["added"].append(camera_id)
        changes["paused"] = sorted(self._paused)
        parts = [f"{verb} {', '.join(ids)}" for verb, ids in changes.items() if ids]
        if not parts:
            return None
        undo = "delete the file to undo them all"
        return f"{self._path}, changes made over HTTP: {'; '.join(parts)} ({undo})"

    def is_paused(self, camera_id: str) -> bool:
        """Whether the camera waits to be resumed."""
        return camera_id in self._paused

    def note(self, camera_id: str, camera: CameraConfig | None) -> None:
        """Save a camera as it is now; None for one that was removed.

        Raises:
            ConfigError: the file cannot be written; then nothing has changed.
        """
        cameras = dict(self._cameras)
        paused = set(self._paused)
        is_known = cameras.get(camera_id) is not None or (
            camera_id in self._configured and camera_id not in cameras
        )
        cameras[camera_id] = camera
        if camera is None or not is_known:
            paused.discard(camera_id)  # an earlier camera of this name may have been paused
        if camera is None and camera_id not in self._configured:
            del cameras[camera_id]  # nothing is left to undo
        self._save(cameras, paused)

    def pause(self, camera_id: str, *, paused: bool) -> None:
        """Save that a camera is paused, or no longer is.

        Raises:
            ConfigError: the file cannot be written; then nothing has changed.
        """
        self._save(
            dict(self._cameras),
            self._paused | {camera_id} if paused else self._paused - {camera_id},
        )

    def _save(self, cameras: dict[str, CameraConfig | None], paused: set[str]) -> None:
        before = self._cameras, self._paused
        self._cameras = cameras
        self._paused = paused
        try:
            self._write()
        except OSError as error:
            self._cameras, self._paused = before
            raise ConfigError(
                f"changes of cameras cannot be kept in {self._path}: {error.strerror}; set"
                " http.changes to a file that can be written"
            ) from None

    def _read(self) -> None:
        assert self._path is not None
        try:
            tree: Any = json.loads(self._path.read_text(encoding="utf-8"))
            cameras = dict(tree["cameras"])
            paused = set(tree["paused"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"http.changes: {self._path} cannot be read ({type(error).__name__}); repair it,"
                " or delete it to undo all changes"
            ) from None
        self._paused = {str(camera_id) for camera_id in paused}
        for camera_id, fields in cameras.items():
            self._cameras[camera_id] = (
                None
                if fields is None
                else check_tree(fields, CameraConfig, name=f"{self._path}, camera {camera_id}")
            )

    def _write(self) -> None:
        if self._path is None:
            return
        cameras = {
            camera_id: None if camera is None else camera.model_dump(mode="json")
            for camera_id, camera in self._cameras.items()
        }
        text = json.dumps({"cameras": cameras, "paused": sorted(self._paused)}, indent=2)
        write_file(self._path, text, mode=PRIVATE_FILE, durable=True)
