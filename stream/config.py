"""The whole configuration of the live pipeline: one section per stage, each defined in its room."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from configs import ConfigError, StrictModel
from configs.private_files import warn_of_exposed_file
from model.calibration import threshold_warning
from model.checkpoints.weights import ModelSpec, read_spec
from stream.analysis.config import BatchConfig, InferConfig, check_spec, weights_path
from stream.cameras.allowed_files import AllowedFiles
from stream.cameras.checks import (
    SHARED_SECTIONS,
    check_camera,
    count_views,
    with_shared_settings,
)
from stream.cameras.config import CameraConfig
from stream.console.config import LogConfig
from stream.events.config import EventConfig, KafkaConfig, OutboxConfig, SnapshotConfig
from stream.events.start_check import check_authorities, check_certificates
from stream.fleet.config import MAX_VIEWS, CamerasFrom, broker_of_cameras
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.ffmpeg_program import program_problems
from stream.serve.config import HttpConfig
from stream.sinks.assembly import check_sinks
from stream.sinks.config import KAFKA, MAX_SINKS, sink_settings
from stream.sinks.mqtt_config import MqttConfig
from stream.sinks.webhook_config import WebhookConfig
from stream.tracing.config import TracingConfig
from stream.verify.config import VerifyConfig

__all__ = [
    "StreamConfig",
    "allowed_files",
    "camera_check",
    "check_settings",
    "completed_camera",
    "max_views",
    "overrides_path",
]

_log = logging.getLogger(__name__)
# Room for cameras that are added while the pipeline runs.
_MIN_VIEWS = 64


class StreamConfig(StrictModel):
    """Settings of `python -m stream run`."""

    cameras: tuple[CameraConfig, ...] = Field(
        description="the cameras; more may come over HTTP", max_length=1024
    )
    cameras_from: CamerasFrom = Field(
        CamerasFrom(), description="cameras that live in a topic, for many machines"
    )
    source: SourceConfig = Field(SourceConfig(), description="opening and reopening cameras")
    clip: ClipConfig = Field(ClipConfig(), description="sampling")
    batch: BatchConfig = Field(BatchConfig(), description="batches and bounds")
    infer: InferConfig = Field(InferConfig(), description="network and device")
    events: EventConfig = Field(EventConfig(), description="from probabilities to events")
    outbox: OutboxConfig = Field(OutboxConfig(), description="event store")
    kafka: KafkaConfig = Field(KafkaConfig(), description="broker")
    webhooks: tuple[WebhookConfig, ...] = Field(
        (), description="receivers of events over HTTP", max_length=MAX_SINKS
    )
    mqtt: tuple[MqttConfig, ...] = Field(
        (), description="MQTT servers that get events", max_length=MAX_SINKS
    )
    snapshots: SnapshotConfig = Field(SnapshotConfig(), description="pictures of events")
    verify: VerifyConfig = Field(VerifyConfig(), description="second looks at actions")
    tracing: TracingConfig = Field(TracingConfig(), description="traces of events")
    log: LogConfig = Field(LogConfig(), description="log lines")
    http: HttpConfig = Field(HttpConfig(), description="metrics, health and cameras")

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, tree: Any) -> Any:
        """Complete the cameras' own sections by those of all cameras."""
        if not isinstance(tree, dict):
            return tree
        # `kafka:` with nothing under it is a section of defaults; `http: null` might be meant to
        # switch it off.
        optional = set(cls.model_fields) - {"cameras", "http"}
        tree = {
            name: section
            for name, section in tree.items()
            if section is not None or name not in optional
        }
        cameras_from = tree.get("cameras_from")
        if isinstance(cameras_from, dict) and cameras_from.get("topic") is not None:
            tree.setdefault("cameras", [])
        if not isinstance(tree.get("cameras"), (list, tuple)):
            return tree
        try:
            cameras = [with_shared_settings(camera, tree) for camera in tree["cameras"]]
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return tree | {"cameras": cameras}

    @model_validator(mode="after")
    def _check(self) -> StreamConfig:
        ids = [camera.id for camera in self.cameras]
        twice = sorted({camera_id for camera_id in ids if ids.count(camera_id) > 1})
        if twice:
            raise ValueError(
                f"cameras: the id {twice[0]!r} is used more than once; every camera needs its own"
            )
        self._check_sinks()
        if self.cameras_from.topic is not None:
            self._check_fleet()
        elif not self.cameras and not self.http.enabled:
            raise ValueError("cameras: there are none, and without http.enabled none can be added")
        return self

    def _check_sinks(self) -> None:
        names = [KAFKA, *(sink.name for sink in sink_settings(self))]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"the sink name {twice[0]!r} is used more than once; every sink needs its own, and"
                f" {KAFKA!r} is that of section kafka"
            )
        if len(names) > MAX_SINKS:
            raise ValueError(
                f"there are {len(names)} sinks with Kafka; at most {MAX_SINKS} are possible"
            )

    def _check_fleet(self) -> None:
        if self.cameras:
            raise ValueError(
                f"cameras and cameras_from.topic are both given ({len(self.cameras)} cameras, topic"
                f" {self.cameras_from.topic!r}); import the cameras into the topic with"
                " `cidc-stream cameras import FILE` and remove them here, or remove"
                " cameras_from.topic"
            )
        if self.cameras_from.topic == self.kafka.topic:
            raise ValueError(
                f"cameras_from.topic and kafka.topic are both {self.kafka.topic!r}; cameras and"
                " events need topics of their own"
            )
        if not broker_of_cameras(self.cameras_from, self.kafka).bootstrap:
            raise ValueError(
                "cameras_from.topic needs a broker: set kafka.bootstrap, or cameras_from.bootstrap"
            )


def overrides_path(config: StreamConfig) -> Path | None:
    """The file of changes made over HTTP, beside the outbox unless the configuration names one.

    None if no changes can be made, or if they are written to the topic of the cameras.
    """
    if not config.http.enabled or config.cameras_from.topic is not None:
        return None
    beside_outbox = config.outbox.path.with_name(config.outbox.path.name + ".cameras.json")
    return config.http.changes or beside_outbox


def allowed_files(config: StreamConfig) -> AllowedFiles:
    """The files of this machine that cameras added or changed over HTTP may name."""
    return AllowedFiles(config.http.files, config.cameras, config.source)


def camera_check(config: StreamConfig, spec: ModelSpec) -> Callable[[CameraConfig], None]:
    """Return the check of a camera that is not in the file: it comes over HTTP or from a topic.

    The check raises a ConfigError for a camera that cannot be used.
    """
    allowed = allowed_files(config)

    def check(camera: CameraConfig) -> None:
        check_camera(camera, spec, allowed)
        if problems := program_problems(config.source, [camera]):
            raise ConfigError(problems[0])
        if len(camera.views) > max_views(config):
            raise ConfigError(
                f"camera {camera.id}: it has more regions than batch.max_views:"
                f" {max_views(config)}; raise it"
            )

    return check


def completed_camera(config: StreamConfig) -> Callable[[Mapping[str, Any]], Any]:
    """Return what completes a camera's own sections by those of all cameras."""
    shared = {name: getattr(config, name) for name in SHARED_SECTIONS}
    return lambda fields: with_shared_settings(fields, shared)


def check_settings(
    config: StreamConfig, cameras: Sequence[CameraConfig] | None = None
) -> ModelSpec:
    """Check everything that can be checked without running; returns what the weights describe.

    Thresholds that were found at another temperature than the weights have now are logged.

    Args:
        cameras: those to check instead of the configuration's.

    Raises:
        ConfigError: a camera's file is missing or may not be named, an event rule names an unknown
            label, or there are too many views.
        CheckpointError: the weights are missing, damaged, or do not fit the configuration.
        BrokerError: the files for encryption and login of the broker cannot be used.
    """
    cameras = config.cameras if cameras is None else cameras
    allowed = allowed_files(config)
    for camera in cameras:
        allowed.check(camera)
    found = [config.source.problem(), *(camera.problem() for camera in cameras)]
    found += program_problems(config.source, cameras)
    if problems := [problem for problem in found if problem is not None]:
        raise ConfigError("; ".join(problems))
    check_certificates(config.kafka)
    check_sinks(config)
    config.tracing.check()
    if config.cameras_from.topic is not None:
        _check_topic_settings(config)
    for source in (config.source, *(camera.source for camera in cameras)):
        if source is not None and source.tls_ca_file is not None:
            check_authorities(source.tls_ca_file, "source.tls_ca_file")
    spec = read_spec(weights_path(config.infer))
    check_spec(spec, config.infer, config.clip.fps)
    config.events.check_labels(spec.labels)
    if (warning := threshold_warning(config.events, spec.temperature)) is not None:
        _log.warning("%s", warning)
    config.verify.check_labels(spec.labels)
    for camera in cameras:
        check_camera(camera, spec)
    if count_views(cameras) > max_views(config):
        raise ConfigError(
            f"{count_views(cameras)} cameras and regions need more than batch.max_views:"
            f" {max_views(config)}; raise it"
        )
    if config.http.enabled:
        config.http.secret()
        warn_of_exposed_file("http.token_file", config.http.token_file)
    config.verify.api_key()
    warn_of_exposed_file("verify.api_key_file", config.verify.api_key_file)
    return spec


def _check_topic_settings(config: StreamConfig) -> None:
    """Check the files that cameras of a topic need.

    Raises:
        ConfigError: the folder of secrets is missing.
        BrokerError: the files for encryption and login of the broker cannot be used.
    """
    if config.cameras_from.bootstrap is not None and not config.kafka.bootstrap:
        check_certificates(broker_of_cameras(config.cameras_from, config.kafka))
    folder = config.cameras_from.secrets_dir
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            f"cameras_from.secrets_dir: there is no folder {folder}; create it, or name the one"
            " that has the files of secrets"
        )


def max_views(config: StreamConfig) -> int:
    """Cameras, or their regions, that can be analysed at once."""
    if config.cameras_from.topic is not None:
        return config.batch.max_views or MAX_VIEWS
    return config.batch.max_views or max(_MIN_VIEWS, count_views(config.cameras))
