"""Settings of cameras that live in a Kafka topic (section `cameras_from`)."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
from pathlib import Path

from pydantic import Field, model_validator

from configs import StrictModel
from stream.events.config import BrokerAddresses, KafkaConfig, TopicName

__all__ = ["DEFAULT_TOPIC", "MAX_VIEWS", "CamerasFrom", "broker_of_cameras", "worker_name"]

# What commands use that are given no other topic.
DEFAULT_TOPIC = "cidc-cameras"
# Default of batch.max_views for a worker: it cannot know how many cameras it will get.
MAX_VIEWS = 256
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_MACHINE_ID = Path("/etc/machine-id")
_MAX_HOST = 48  # characters of the host name in the name of a worker


class CamerasFrom(StrictModel):
    """Where the cameras come from, if they are not in this file: a topic that workers share."""

    topic: TopicName | None = Field(
        None,
        description="compacted topic that holds the cameras; null: the cameras of this file",
    )
    group: str = Field(
        "cidc-workers",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="consumer group of the workers that share the cameras of the topic",
    )
    bootstrap: BrokerAddresses | None = Field(
        None,
        description="host:port of one or more brokers; null: kafka.bootstrap. Encryption and login"
        " are those of section kafka",
    )
    partitions: int = Field(
        64,
        ge=1,
        le=10_000,
        description="partitions of a new topic; at most so many workers can share the cameras",
    )
    replication: int = Field(
        -1, ge=-1, le=100, description="replicas of a new topic; -1: the broker's default"
    )
    session_seconds: float = Field(
        10.0,
        ge=1,
        le=1800,
        description="a worker that gives no sign of life for this long loses its cameras to the"
        " others; most brokers accept 6 and more",
    )
    worker: str | None = Field(
        None,
        pattern=_NAME,
        description="name of this worker, which no other may have; null: the host name and an id"
        " that stays the same after a restart",
    )
    static_membership: bool = Field(
        False,
        description="keep the cameras of a worker for session_seconds while it restarts; its name"
        " must stay the same",
    )
    secrets_dir: Path | None = Field(
        None,
        description="folder with one file for each secret; ${secret:NAME} in an address stands for"
        " the content of the file NAME",
    )
    open_events_topic: TopicName = Field(
        "action-open",
        description="compacted topic that holds the actions that are going on, so that a worker can"
        " end those of a worker that died",
    )
    max_load: float | None = Field(
        None,
        gt=0,
        le=100,
        description="above this load (cidc_worker_load) a worker starts no more cameras, and names"
        " those that wait; null: it takes all, and drops clips of all cameras evenly",
    )
    min_partitions_per_worker: int = Field(
        8,
        ge=1,
        le=10_000,
        description="with fewer partitions for each worker a warning is logged: the cameras are"
        " then spread unevenly",
    )

    @model_validator(mode="after")
    def _check(self) -> CamerasFrom:
        if self.replication == 0:
            raise ValueError("replication must be at least 1, or -1 to leave it to the broker")
        if self.topic is not None and self.topic == self.open_events_topic:
            raise ValueError(
                f"topic and open_events_topic are both {self.topic!r}; they must differ"
            )
        return self


def broker_of_cameras(cameras_from: CamerasFrom, kafka: KafkaConfig) -> KafkaConfig:
    """Return the settings with which the topic of the cameras is reached.

    They are those of the events, with another topic and, if the section names some, other brokers.
    """
    return kafka.model_copy(
        update={
            "bootstrap": kafka.bootstrap
            if cameras_from.bootstrap is None
            else cameras_from.bootstrap,
            "topic": cameras_from.topic or DEFAULT_TOPIC,
            "partitions": cameras_from.partitions,
            "replication": cameras_from.replication,
        }
    )


def worker_name(cameras_from: CamerasFrom, outbox: Path) -> str:
    """Return the name of this worker: the given one, or one made of host name and a short id.

    Two workers of one machine have different outboxes, and so different ids. A worker keeps its
    name when it restarts on the same machine.

    Args:
        outbox: the file of its outbox.
    """
    if cameras_from.worker is not None:
        return cameras_from.worker
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("._-")[:_MAX_HOST]
    machine = b""
    with contextlib.suppress(OSError):  # not every system has the file
        machine = _MACHINE_ID.read_bytes()
    digest = hashlib.sha256(machine + b"\0" + str(outbox.absolute()).encode(errors="replace"))
    return f"{host or 'worker'}-{digest.hexdigest()[:8]}"
