"""Find the topic that holds the cameras, or create it; refuse one that would lose cameras."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from configs import BrokerError
from stream.events.broker_addresses import unreachable_broker
from stream.events.config import KafkaConfig
from stream.events.kafka import advertised_brokers, connect_admin, explained, kafka, silence_log

__all__ = ["find_compacted_topic"]

_log = logging.getLogger(__name__)
# The broker may delete records of a topic with this policy once they are old, or once there are
# many.
_DELETES = "delete"
_FOREVER = "-1"


def find_compacted_topic(config: KafkaConfig, *, setting: str = "cameras_from.topic") -> int:
    """Check the topic `config.topic`, or create it if it is missing; return its partitions.

    The log says if it has fewer partitions than `config.partitions`, or could not be checked.

    Args:
        setting: name of the setting that names the topic, for messages.

    Raises:
        BrokerError: the broker cannot be reached, the topic is missing and may not be created, or
            its records would be deleted after some time; the message says what to do.
    """
    silence_log()
    with _admin(config) as admin:
        if config.topic in admin.list_topics():
            _check_policy(admin, config, setting)
        else:
            _create(admin, config, setting)
        [found] = admin.describe_topics([config.topic])
        partitions = len(found["partitions"])
    if partitions < config.partitions:
        _log.warning(
            "%s: the topic %r has %d partitions, fewer than the %d of the settings; at most %d"
            " workers can share it. To have more, create another topic and import the cameras"
            " into it: with more partitions, old and new records of a camera may be in different"
            " ones",
            setting,
            config.topic,
            partitions,
            config.partitions,
            partitions,
        )
    return partitions


@contextlib.contextmanager
def _admin(config: KafkaConfig) -> Iterator[Any]:
    """Yield a connected admin client; its errors become a `BrokerError`."""
    where = ", ".join(config.bootstrap)
    with explained(config):
        try:
            with contextlib.closing(connect_admin(config)) as admin:
                try:
                    yield admin
                except (kafka.errors.KafkaTimeoutError, kafka.errors.KafkaConnectionError):
                    if (reason := unreachable_broker(advertised_brokers(admin))) is not None:
                        raise BrokerError(f"kafka at {where}: {reason}") from None
                    raise
        except OSError as error:
            raise BrokerError(
                f"kafka at {where} cannot be reached: {error.strerror or error}"
            ) from None


def _create(admin: Any, config: KafkaConfig, setting: str) -> None:
    command = (
        f"kafka-topics.sh --create --topic {config.topic} --partitions {config.partitions}"
        " --config cleanup.policy=compact"
    )
    if not config.create_topic:
        raise BrokerError(
            f"{setting}: the topic {config.topic!r} does not exist, and kafka.create_topic is"
            f" false; create it with `{command}`"
        )
    wanted = {
        "num_partitions": config.partitions,
        "replication_factor": config.replication,
        "configs": {"cleanup.policy": "compact"},
    }
    try:
        admin.create_topics({config.topic: wanted}, wait_for_metadata=True)
        _log.info(
            "created the Kafka topic %r with %d partitions, compacted",
            config.topic,
            config.partitions,
        )
    except kafka.errors.TopicAlreadyExistsError:
        _check_policy(admin, config, setting)  # another worker was faster
    except (kafka.errors.AuthorizationError, kafka.errors.PolicyViolationError) as error:
        raise BrokerError(
            f"{setting}: the topic {config.topic!r} does not exist, and the broker does not let"
            f" this user create it ({type(error).__name__}); create it with `{command}`"
        ) from None


def _check_policy(admin: Any, config: KafkaConfig, setting: str) -> None:
    """Refuse a topic whose old records are deleted.

    Raises:
        BrokerError: they are.
    """
    try:
        settings = _settings(admin, config.topic)
    except (kafka.errors.AuthorizationError, kafka.errors.UnsupportedVersionError) as error:
        settings = {}
        _log.warning(
            "%s: the broker does not show the settings of the topic %r (%s); make sure that its"
            " cleanup.policy is compact",
            setting,
            config.topic,
            type(error).__name__,
        )
    policy = settings.get("cleanup.policy", "")
    limits = [name for name in ("retention.ms", "retention.bytes") if _limits(settings, name)]
    if _DELETES in policy.split(",") and limits:
        raise BrokerError(
            f"{setting}: the topic {config.topic!r} has cleanup.policy={policy} and"
            f" {limits[0]}={settings[limits[0]]}, so the broker would delete cameras; set it with"
            f" `kafka-configs.sh --alter --entity-type topics --entity-name {config.topic}"
            " --add-config cleanup.policy=compact`, or name another topic"
        )


def _limits(settings: dict[str, str], name: str) -> bool:
    return settings.get(name, _FOREVER) != _FOREVER


def _settings(admin: Any, topic: str) -> dict[str, str]:
    """Return the settings of a topic as texts; some brokers return none."""
    resource = kafka.admin.ConfigResource("TOPIC", topic)
    found = admin.describe_configs([resource], config_filter="all")
    values = found.get("topic", {}).get(topic, {})
    return {name: str(entry["value"]).replace(" ", "") for name, entry in values.items()}
