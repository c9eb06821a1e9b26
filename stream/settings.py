"""The whole configuration of the live pipeline: one section per stage, each defined beside its stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from configs import ConfigError, StrictModel, merged
from model.weights import ModelSpec, read_spec
from stream.batch import BatchConfig
from stream.broker import KafkaConfig
from stream.camera import CameraConfig, SourceConfig
from stream.events import EventConfig
from stream.infer import InferConfig, check_spec, weights_path
from stream.logs import LogConfig
from stream.outbox import OutboxConfig
from stream.sample import ClipConfig
from stream.serve.config import HttpConfig
from stream.snapshots import SnapshotConfig

__all__ = ["StreamConfig", "changes_path", "check_camera", "check_room", "check_settings", "completed", "most_views"]

# Room for cameras that come while the pipeline runs.
_LEAST_VIEWS = 64


class StreamConfig(StrictModel):
    """Settings of `python -m stream run`."""

    cameras: tuple[CameraConfig, ...] = Field(description="the cameras; more may come over HTTP", max_length=1024)
    source: SourceConfig = Field(SourceConfig(), description="opening and reopening cameras")
    clip: ClipConfig = Field(ClipConfig(), description="sampling")
    batch: BatchConfig = Field(BatchConfig(), description="batches and bounds")
    infer: InferConfig = Field(InferConfig(), description="network and device")
    events: EventConfig = Field(EventConfig(), description="from probabilities to events")
    outbox: OutboxConfig = Field(OutboxConfig(), description="event store")
    kafka: KafkaConfig = Field(KafkaConfig(), description="broker")
    snapshots: SnapshotConfig = Field(SnapshotConfig(), description="pictures of events")
    log: LogConfig = Field(LogConfig(), description="log lines")
    http: HttpConfig = Field(HttpConfig(), description="metrics, health and cameras")

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, tree: Any) -> Any:
        """A camera's own sections take what they do not name from those of all cameras."""
        if not isinstance(tree, dict):
            return tree
        # `kafka:` with nothing under it is a section of defaults; `http: null` might be meant to switch it off.
        optional = set(cls.model_fields) - {"cameras", "http"}
        tree = {name: section for name, section in tree.items() if section is not None or name not in optional}
        if not isinstance(tree.get("cameras"), (list, tuple)):
            return tree
        return tree | {"cameras": [completed(camera, tree) for camera in tree["cameras"]]}

    @model_validator(mode="after")
    def _check(self) -> StreamConfig:
        ids = [camera.id for camera in self.cameras]
        twice = sorted({camera_id for camera_id in ids if ids.count(camera_id) > 1})
        if twice:
            raise ValueError(f"cameras: the id {twice[0]!r} is used more than once; every camera needs its own")
        if not self.cameras and not self.http.enabled:
            raise ValueError("cameras: there is none, and without http.enabled none can come")
        return self


def changes_path(config: StreamConfig) -> Path | None:
    """Where changes of cameras are kept: beside the outbox unless the configuration names a file; None if none can be made."""
    if not config.http.enabled:
        return None
    return config.http.changes or config.outbox.path.with_name(config.outbox.path.name + ".cameras.json")


def completed(camera: Any, common: Any) -> Any:
    """A camera's settings with its own sections `events` and `source` completed by those in `common`; what is no mapping is left alone."""
    if not isinstance(camera, Mapping):
        return camera
    sections = {}
    for name, settings in (("events", EventConfig), ("source", SourceConfig)):
        of_all = common.get(name)
        of_all = of_all.model_dump(mode="json") if isinstance(of_all, StrictModel) else of_all
        if isinstance(camera.get(name), Mapping) and isinstance(of_all, Mapping):
            known = {key: value for key, value in of_all.items() if key in settings.model_fields}  # mistakes are told of where they are
            sections[name] = merged(known, camera[name])
    return dict(camera) | sections


def check_settings(config: StreamConfig, cameras: Sequence[CameraConfig] | None = None) -> ModelSpec:
    """Check everything that can be checked without running; returns what the weights say about themselves.

    Args:
        cameras: those to check instead of the configuration's.

    Raises:
        ConfigError: a camera's file is missing, an event rule names an unknown label, or there are too many views.
        CheckpointError: the weights are missing, damaged, or do not fit the configuration.
    """
    cameras = config.cameras if cameras is None else cameras
    problems = [problem for problem in (config.source.problem(), *(camera.problem() for camera in cameras)) if problem]
    if problems:
        raise ConfigError("; ".join(problems))
    spec = read_spec(weights_path(config.infer))
    check_spec(spec, config.infer, config.clip.fps)
    config.events.check_labels(spec.labels)
    for camera in cameras:
        check_camera(camera, spec)
    if _views(cameras) > most_views(config):
        raise ConfigError(f"{_views(cameras)} cameras and regions need more than batch.most_views: {most_views(config)}; raise it")
    if config.http.enabled:
        config.http.secret()
    return spec


def most_views(config: StreamConfig) -> int:
    """Cameras, or their regions, that can be analysed at once."""
    return config.batch.most_views or max(_LEAST_VIEWS, _views(config.cameras))


def check_room(camera: CameraConfig, others: Iterable[CameraConfig], most: int) -> None:
    """Check that a camera can be analysed beside the others.

    Raises:
        ConfigError: there is no room for its views.
    """
    taken = _views(others)
    if taken + len(camera.views) > most:
        raise ConfigError(f"no room: {taken} of batch.most_views ({most}) are taken")


def check_camera(camera: CameraConfig, spec: ModelSpec) -> None:
    """Check one camera against the weights.

    Raises:
        ConfigError: its file is missing, or its event rules name an unknown label.
    """
    problem = camera.problem()
    if problem is not None:
        raise ConfigError(problem)
    if camera.events is not None:
        try:
            camera.events.check_labels(spec.labels)
        except ConfigError as error:
            raise ConfigError(f"camera {camera.id}: {error}") from None


def _views(cameras: Iterable[CameraConfig]) -> int:
    return sum(len(camera.views) for camera in cameras)
