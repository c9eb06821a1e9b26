"""Delivers events to an MQTT 5 server, in the order of the outbox.

Events are published with quality of service 1 and count as delivered when the server has
acknowledged them. After a lost connection, the first event without an acknowledgement and all
later ones are sent again on a new connection, in order; receivers drop the repetitions by
`event_id`, `kind` and `sequence`.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from typing import NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from configs import ConfigError
from stream.events.event import SCHEMA, ActionEvent, StoredEvent
from stream.sinks.delivery import Refused, Undelivered
from stream.sinks.mqtt_config import MqttConfig, filled_topic
from stream.sinks.mqtt_connection import MqttConnection
from stream.sinks.mqtt_reasons import FIRST_FAILURE, undelivered
from stream.sinks.tls import client_context

__all__ = ["MqttDelivery", "mqtt_tls"]

_MAX_BATCH = 1000
_HEADER_BYTES = 9  # at most, beside topic, properties and payload


class _Message(NamedTuple):
    topic: str
    payload: bytes
    properties: Properties

    @property
    def packet_bytes(self) -> int:
        """Size of the packet, or up to 4 bytes more."""
        packed: bytes = self.properties.pack()  # type: ignore[no-untyped-call]
        return len(self.topic.encode()) + len(self.payload) + len(packed) + _HEADER_BYTES


class MqttDelivery:
    """Publishes events on the topics of an MQTT server.

    Args:
        client_id: used if the settings name none.

    Raises:
        ConfigError: a file of the settings cannot be used.
    """

    def __init__(self, config: MqttConfig, *, client_id: str) -> None:
        self.name = config.name
        self.address = config.url
        self.max_batch = _MAX_BATCH
        self._config = config
        self._client_id = config.client_id or client_id
        self._tls = mqtt_tls(config)
        self._connection: MqttConnection | None = None

    def keep_connected(self, stopping: threading.Event) -> None:
        """Connect if there is no connection, so that the status message is right without events.

        Raises:
            Undelivered: the server cannot be reached, or refuses the connection.
        """
        self._connected(stopping)

    def deliver(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        """Publish the events, and wait until the server has acknowledged all of them.

        Raises:
            Undelivered: the server has not acknowledged all of them.
        """
        connection = self._connected(stopping)
        messages = [self._message(stored.event) for stored in events]
        window = max(1, min(self._config.max_in_flight, connection.receive_maximum))
        numbers: list[int] = []
        delivered = 0
        try:
            while delivered < len(events):
                while len(numbers) < min(len(events), delivered + window):
                    if not self._fits(messages[len(numbers)], connection):
                        break
                    message = messages[len(numbers)]
                    numbers.append(connection.publish(*message))
                if delivered == len(numbers):
                    raise Refused("too_large", self._too_large(messages[delivered], connection))
                code = connection.acknowledgement(numbers[delivered], stopping)
                if code >= FIRST_FAILURE:
                    for number in numbers[delivered + 1 :]:
                        connection.acknowledgement(number, stopping)
                    raise undelivered(code, f" (topic {messages[delivered].topic})")
                delivered += 1
        except Undelivered as error:
            error.delivered = delivered
            if not isinstance(error, Refused) or not connection.is_alive:
                self._drop()
            if error.reason == "protocol":
                # Some servers refuse an event with a code that an acknowledgement may not have.
                raise Refused(error.reason, str(error), delivered=delivered) from None
            raise

    def close(self) -> None:
        """Publish the offline message and disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self, stopping: threading.Event) -> MqttConnection:
        if self._connection is not None and not self._connection.is_alive:
            self._drop()
        if self._connection is None:
            try:
                self._connection = MqttConnection(
                    self._config, self._client_id, self._tls, stopping
                )
            except ConfigError as error:
                raise Undelivered("settings", str(error)) from None
            except Refused as error:  # a refused connection says nothing about an event
                raise Undelivered(error.reason, str(error)) from None
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def _message(self, event: ActionEvent) -> _Message:
        topic = filled_topic(
            self._config.topic, camera=event.camera_id, action=event.action, kind=event.kind
        )
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.PayloadFormatIndicator = 1
        properties.ContentType = "application/json"
        pairs = [("schema", SCHEMA), ("event_id", event.event_id)]
        if event.traceparent is not None:
            pairs.append(("traceparent", event.traceparent))
        properties.UserProperty = pairs
        return _Message(topic, event.to_json().encode(), properties)

    def _fits(self, message: _Message, connection: MqttConnection) -> bool:
        return message.packet_bytes <= connection.max_packet_bytes

    def _too_large(self, message: _Message, connection: MqttConnection) -> str:
        return (
            f"the event needs {message.packet_bytes} bytes, and the server takes packets of at"
            f" most {connection.max_packet_bytes}"
        )


def mqtt_tls(config: MqttConfig) -> ssl.SSLContext | None:
    """Return what checks the server's certificate; None without encryption.

    Raises:
        ConfigError: a file of the settings cannot be used.
    """
    if not config.is_encrypted:
        return None
    return client_context(
        f"mqtt.{config.name}",
        ca_file=config.ca_file,
        cert_file=config.cert_file,
        key_file=config.key_file,
    )
