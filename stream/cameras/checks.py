"""Whether a camera can be analysed, and the settings it shares with the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from configs import ConfigError, StrictModel, merged, with_current_names
from stream.cameras.allowed_files import AllowedFiles
from stream.cameras.config import CameraConfig
from stream.events.config import EventConfig
from stream.ingest.config import SourceConfig

if TYPE_CHECKING:  # the command `cameras` needs no network, and so no PyTorch
    from model.checkpoints.weights import ModelSpec

__all__ = ["SHARED_SECTIONS", "check_camera", "check_room", "count_views", "with_shared_settings"]

# Sections of a camera that are completed by those of all cameras.
SHARED_SECTIONS: Mapping[str, type[StrictModel]] = {"events": EventConfig, "source": SourceConfig}


def with_shared_settings(camera: Any, shared: Mapping[str, Any]) -> Any:
    """Complete a camera's own sections `events` and `source` by those of all cameras.

    What is not a mapping is returned as it is: the mistake is reported where it is checked.

    Args:
        camera: plain settings of one camera.
        shared: the sections of all cameras, plain or checked.

    Raises:
        ConfigError: a setting is given under its old and its new name.
    """
    if not isinstance(camera, Mapping):
        return camera
    completed = dict(with_current_names(camera, CameraConfig))
    for name, settings in SHARED_SECTIONS.items():
        of_all = shared.get(name)
        if isinstance(of_all, StrictModel):
            of_all = of_all.model_dump(mode="json")
        if isinstance(camera.get(name), Mapping) and isinstance(of_all, Mapping):
            current = with_current_names(of_all, settings)
            # Unknown settings are reported once, in the section of all cameras.
            known = {key: value for key, value in current.items() if key in settings.model_fields}
            completed[name] = merged(known, completed[name])
    return completed


def check_camera(
    camera: CameraConfig, spec: ModelSpec, allowed: AllowedFiles | None = None
) -> None:
    """Check one camera against the weights.

    Args:
        allowed: the files that it may name, if it was described over HTTP; None for any file.

    Raises:
        ConfigError: its file is missing or may not be named, or its event rules name an unknown
            label.
    """
    if allowed is not None:
        allowed.check(camera)  # first, because the other checks tell whether files exist
    problem = camera.problem()
    if problem is not None:
        raise ConfigError(problem)
    if camera.events is not None:
        try:
            camera.events.check_labels(spec.labels)
        except ConfigError as error:
            raise ConfigError(f"camera {camera.id}: {error}") from None


def check_room(camera: CameraConfig, others: Iterable[CameraConfig], max_views: int) -> None:
    """Check that a camera can be analysed beside the others.

    Raises:
        ConfigError: there is no room for its views.
    """
    taken = count_views(others)
    if taken + len(camera.views) > max_views:
        raise ConfigError(f"no room: {taken} of batch.max_views ({max_views}) are taken")


def count_views(cameras: Iterable[CameraConfig]) -> int:
    """How many slots of the ring cameras need."""
    return sum(len(camera.views) for camera in cameras)
