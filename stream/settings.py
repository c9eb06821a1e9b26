"""The whole configuration of the live pipeline: one section per stage, each defined beside its stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from configs import ConfigError, StrictModel
from model.weights import ModelSpec, read_spec
from stream.batch import BatchConfig
from stream.events import EventConfig
from stream.http import HttpConfig
from stream.infer import InferConfig, check_spec, weights_path
from stream.outbox import OutboxConfig
from stream.publish import KafkaConfig
from stream.sample import ClipConfig
from stream.source import CameraConfig, SourceConfig

__all__ = ["StreamConfig", "check_settings"]


class StreamConfig(StrictModel):
    """Settings of `python -m stream run`."""

    cameras: tuple[CameraConfig, ...] = Field(description="the cameras", min_length=1, max_length=1024)
    source: SourceConfig = Field(SourceConfig(), description="opening and reopening cameras")
    clip: ClipConfig = Field(ClipConfig(), description="sampling")
    batch: BatchConfig = Field(BatchConfig(), description="batches and bounds")
    infer: InferConfig = Field(InferConfig(), description="network and device")
    events: EventConfig = Field(EventConfig(), description="from probabilities to events")
    outbox: OutboxConfig = Field(OutboxConfig(), description="event store")
    kafka: KafkaConfig = Field(KafkaConfig(), description="broker")
    http: HttpConfig = Field(HttpConfig(), description="metrics and health")

    @model_validator(mode="after")
    def _check(self) -> StreamConfig:
        ids = [camera.id for camera in self.cameras]
        twice = sorted({camera_id for camera_id in ids if ids.count(camera_id) > 1})
        if twice:
            raise ValueError(f"cameras: the id {twice[0]!r} is used more than once; every camera needs its own")
        return self


def check_settings(config: StreamConfig) -> ModelSpec:
    """Check everything that can be checked without running; returns what the weights say about themselves.

    Raises:
        ConfigError: a camera's file is missing, or an event rule names an unknown label.
        CheckpointError: the weights are missing, damaged, or do not fit the configuration.
    """
    problems = [problem for camera in config.cameras if (problem := camera.problem())]
    if problems:
        raise ConfigError("; ".join(problems))
    spec = read_spec(weights_path(config.infer))
    check_spec(spec, config.infer, config.clip.fps)
    config.events.check_labels(spec.labels)
    return spec
