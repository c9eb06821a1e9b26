"""Makes the deliveries of the sinks that the configuration names."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from configs.private_files import warn_of_exposed_file
from stream.sinks.config import SinkConfig
from stream.sinks.delivery import Delivery

if TYPE_CHECKING:
    from stream.config import StreamConfig
    from stream.sinks.mqtt_config import MqttConfig
    from stream.sinks.webhook_config import WebhookConfig

__all__ = ["check_sinks", "client_id_of", "make_deliveries"]

_log = logging.getLogger(__name__)
_MAX_HOST = 40


def make_deliveries(config: StreamConfig) -> list[tuple[SinkConfig, Delivery]]:
    """Make the delivery of each sink beside Kafka, in the order of the configuration.

    Nothing is connected yet: `cidc-stream check` makes and closes them, too.

    Raises:
        ConfigError: the settings of a sink cannot be used.
    """
    found: list[tuple[SinkConfig, Delivery]] = []
    # The libraries are imported only where they are needed.
    if config.webhooks:
        from stream.sinks.webhook import WebhookDelivery

        found += [(each, WebhookDelivery(each)) for each in config.webhooks]
    if config.mqtt:
        from stream.sinks.mqtt import MqttDelivery

        outbox = config.outbox.path
        found += [
            (each, MqttDelivery(each, client_id=client_id_of(each.name, outbox)))
            for each in config.mqtt
        ]
    return found


def client_id_of(sink: str, outbox: Path) -> str:
    """Return a name for a client that stays the same after a restart.

    No other pipeline has it: not on another host, and not with another outbox.
    """
    host = socket.gethostname()
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", host).strip("._-")[:_MAX_HOST]
    digest = hashlib.sha256(f"{host}\0{outbox.absolute()}\0{sink}".encode()).hexdigest()
    return f"cidc-{shown}-{sink}-{digest[:8]}"


def check_sinks(config: StreamConfig) -> None:
    """Check the files of secrets of the sinks beside Kafka.

    Logs a warning for each way in which others could get a secret or the events.

    Raises:
        ConfigError: a file of the settings cannot be used.
    """
    for webhook in config.webhooks:
        _check_webhook(webhook)
    for server in config.mqtt:
        _check_mqtt(server)


def _check_webhook(config: WebhookConfig) -> None:
    config.keys()
    config.further_headers()
    for name in ("secret_file", "token_file", "headers_file"):
        warn_of_exposed_file(f"webhooks.{config.name}.{name}", getattr(config, name))
    if not config.is_encrypted and not config.allow_private:
        _log.warning(
            "webhooks.%s.url is not encrypted: whoever sees the traffic to %s reads the events%s;"
            " use https",
            config.name,
            config.address,
            " and the headers with the login" if config.has_login else "",
        )


def _check_mqtt(config: MqttConfig) -> None:
    has_password = config.secret() is not None
    for name in ("password_file", "key_file"):
        warn_of_exposed_file(f"mqtt.{config.name}.{name}", getattr(config, name))
    if not config.is_encrypted and config.host not in ("localhost", "127.0.0.1", "::1"):
        _log.warning(
            "mqtt.%s.url is not encrypted: whoever sees the traffic to %s reads the events%s; use"
            " mqtts",
            config.name,
            config.url,
            " and the password" if has_password else "",
        )
