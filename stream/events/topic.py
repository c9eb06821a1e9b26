"""Find the Kafka topic of the events, or create it if the settings allow it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import Any

from stream.events.broker_addresses import unreachable_broker
from stream.events.config import KafkaConfig
from stream.events.kafka import advertised_brokers, connect_admin, kafka

__all__ = ["TopicProblem", "find_topic"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TopicProblem:
    """The reason that events cannot be published to the topic now.

    Args:
        failure: one-word name of the problem, for metrics.
        reason: description of the problem, for the log.
    """

    failure: str
    reason: str


def find_topic(config: KafkaConfig) -> TopicProblem | None:
    """Look for the topic with a new client; create a missing topic if `create_topic` is set.

    If the broker does not allow this check, the topic is assumed to exist; if it does not, the
    producer fails later.

    Returns:
        The problem with the topic, or None if records can be sent.
    """
    try:
        with contextlib.closing(connect_admin(config)) as admin:
            try:
                return _find_or_create(admin, config)
            except (kafka.errors.KafkaTimeoutError, kafka.errors.KafkaConnectionError):
                reason = unreachable_broker(advertised_brokers(admin))
                if reason is None:
                    raise
                return TopicProblem("advertised_address", reason)
    except (kafka.errors.AuthorizationError, kafka.errors.UnsupportedVersionError) as error:
        _log.warning(
            "Kafka topic %r could not be checked (%s); publishing to it anyway",
            config.topic,
            config.redact(error),
        )
        return None
    except (kafka.errors.KafkaTimeoutError, kafka.errors.KafkaConnectionError) as error:
        return TopicProblem("no_metadata", f"no broker answers ({error})")
    except (kafka.errors.KafkaError, OSError, ValueError) as error:
        return TopicProblem(type(error).__name__, f"{type(error).__name__}: {error}")


def _find_or_create(admin: Any, config: KafkaConfig) -> TopicProblem | None:
    if config.topic in admin.list_topics():
        return None
    if not config.create_topic:
        reason = f"topic {config.topic!r} does not exist, and kafka.create_topic is false"
        return TopicProblem("no_topic", reason)
    wanted = {"num_partitions": config.partitions, "replication_factor": config.replication}
    with contextlib.suppress(kafka.errors.TopicAlreadyExistsError):
        admin.create_topics({config.topic: wanted})
        _log.info("created the Kafka topic %r", config.topic)
    return None
