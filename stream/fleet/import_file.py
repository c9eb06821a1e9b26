"""Read the cameras of a file, to import them into the topic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs import ConfigError, check_tree, with_current_names
from configs.loader import load_tree
from stream.cameras.config import CameraConfig
from stream.fleet.secrets import move_secrets
from stream.fleet.topic_cameras import checked_camera

__all__ = ["prepare_cameras", "read_cameras"]

_log = logging.getLogger(__name__)
_MAX_PROBLEMS = 10


def read_cameras(path: Path) -> list[dict[str, Any]]:
    """Return the settings of the cameras in a YAML or JSON file, as they stand there.

    The file is a list of cameras, a configuration with the list `cameras`, or the file of changes
    made over HTTP, whose cameras have their ids as keys. Other sections are not read. Cameras that
    a file of changes removes are left out.

    Raises:
        ConfigError: the file has no list of cameras, or an id twice.
    """
    tree = load_tree(path)
    found = tree
    if isinstance(tree, dict):
        found = tree.get("cameras")
        _note_shared_sections(path, tree)
    if isinstance(found, dict):
        found = [camera for camera in found.values() if camera is not None]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigError(
            f"{path} has no list of cameras; give a list of cameras, a configuration with"
            " `cameras:` or a file of changes made over HTTP"
        )
    ids = [camera.get("id") for camera in found]
    twice = [each for number, each in enumerate(ids) if each in ids[:number]]
    if twice:
        raise ConfigError(f"{path}: the id {twice[0]!r} is used more than once")
    return found


def _note_shared_sections(path: Path, tree: dict[str, Any]) -> None:
    """Log that settings of all cameras stay in the file."""
    shared = [name for name in ("events", "source") if tree.get(name)]
    if shared:
        _log.warning(
            "%s: only its cameras are imported; give the workers its %s in their configuration",
            path,
            " and ".join(f"section {name}" for name in shared),
        )


def prepare_cameras(
    cameras: list[dict[str, Any]],
    complete: Callable[[Mapping[str, Any]], Any] = dict,
    check: Callable[[CameraConfig], None] = lambda camera: None,
    *,
    moves_secrets: bool,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Check cameras, and return their settings as they are written to the topic.

    Args:
        complete: completes the settings of a camera by those of all cameras.
        check: raises a ConfigError for a camera that workers could not use.
        moves_secrets: whether secrets in addresses are replaced by references.

    Returns:
        The cameras, and the secrets by the names with which the addresses refer to them.

    Raises:
        ConfigError: some cannot be used; the message names up to ten of them.
    """
    prepared, secrets, problems = [], dict[str, str](), []
    for number, fields in enumerate(cameras, 1):
        try:
            if moves_secrets:
                fields, found = _moved(fields, complete)
                secrets |= found
            prepared.append(checked_camera(fields, complete, check))
        except ConfigError as error:
            problems.append(_named(str(error), fields.get("id", f"number {number}")))
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        text = "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise ConfigError(text)
    return prepared, secrets


def _named(problem: str, camera_id: object) -> str:
    """Return a problem with the name of its camera at the start."""
    start = f"camera {camera_id}: "
    return problem if problem.startswith(start) else start + problem.removeprefix("camera: ")


def _moved(
    fields: dict[str, Any], complete: Callable[[Mapping[str, Any]], Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    current = dict(with_current_names(fields, CameraConfig))
    camera = check_tree(complete(current), CameraConfig, name="camera", strict=True)
    moved, secrets = move_secrets(camera)
    return current | {"url": moved.url}, secrets
