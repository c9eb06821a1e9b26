"""One connection to an MQTT 5 server, which is used until it is lost and never reconnects itself.

paho-mqtt keeps unacknowledged messages and would send them again after a reconnect. Here the outbox
does that: a lost connection is dropped with everything in it. The network loop is this module's
own, because that of the library cannot use file descriptors above 1023, which a pipeline with many
cameras has.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from configs import readable
from stream.sinks.delivery import Undelivered
from stream.sinks.mqtt_config import MqttConfig, filled_topic
from stream.sinks.mqtt_reasons import FIRST_FAILURE, described, undelivered

__all__ = ["MqttConnection"]

_log = logging.getLogger(__name__)
_LOOP_SECONDS = 1.0
_WAIT_SECONDS = 0.25
_GOODBYE_SECONDS = 1.0
_END_SECONDS = 1.0
_MAX_INCOMING_BYTES = 65_536


class MqttConnection:
    """A connected client.

    Args:
        tls: what checks the server's certificate; None: no encryption.
        stopping: ends waiting early once it is set.

    Raises:
        Undelivered: the server cannot be reached, or refuses the connection.
        ConfigError: the file of the password cannot be used.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        tls: ssl.SSLContext | None,
        stopping: threading.Event,
    ) -> None:
        self._config = config
        self._patience_seconds = config.timeout_seconds
        self._changed = threading.Condition()
        self._answer: tuple[int, Any] | None = None  # code and properties of CONNACK
        self._codes: dict[int, int] = {}  # of acknowledgements that nobody asked for yet
        self._lost: Undelivered | None = None
        self._is_ending = False
        status = config.status_topic
        self._status_topic = None if status is None else filled_topic(status, client_id=client_id)
        self._client = self._make_client(client_id, tls)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{config.name}", daemon=True)
        try:
            self._open(stopping)
        except BaseException:
            self.drop()
            raise

    def _make_client(self, client_id: str, tls: ssl.SSLContext | None) -> Client:
        config = self._config
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = config.timeout_seconds
        client.max_inflight_messages_set(0)  # `deliver` limits them
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_register_write = lambda *_: self._wake()
        if tls is not None:
            client.tls_set_context(tls)
        if config.username is not None:
            client.username_pw_set(config.username, config.secret())
        if self._status_topic is not None:
            client.will_set(self._status_topic, config.offline, qos=1, retain=True)
        return client

    def _open(self, stopping: threading.Event) -> None:
        self._thread.start()
        self._await(lambda: self._answer is not None, stopping, "the server did not answer CONNECT")
        assert self._answer is not None
        code, self._limits = self._answer
        if code >= FIRST_FAILURE:
            raise Undelivered(*described(code))
        if getattr(self._limits, "MaximumQoS", 1) == 0:
            raise undelivered(0x9B)
        self._say(self._config.online, stopping)

    def _say(self, status: str, stopping: threading.Event) -> None:
        """Publish the retained message about this client, and wait for its acknowledgement."""
        if self._status_topic is None:
            return
        code = self.acknowledgement(self.publish(self._status_topic, status, None, True), stopping)
        if code >= FIRST_FAILURE:
            _log.warning(
                "mqtt %s: the message %r on %s was refused: %s",
                self._config.name,
                status,
                self._status_topic,
                described(code)[1],
            )

    @property
    def receive_maximum(self) -> int:
        """How many unacknowledged messages the server takes at once."""
        return int(getattr(self._limits, "ReceiveMaximum", 65_535))

    @property
    def max_packet_bytes(self) -> int:
        """The largest packet that the server takes."""
        return int(getattr(self._limits, "MaximumPacketSize", 268_435_455))

    @property
    def is_alive(self) -> bool:
        """Whether the connection can still be used."""
        return self._lost is None and not self._is_ending

    def publish(
        self, topic: str, payload: str | bytes, properties: Properties | None, retain: bool = False
    ) -> int:
        """Hand a message with quality of service 1 to the connection; return its number."""
        return int(
            self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        )

    def acknowledgement(self, number: int, stopping: threading.Event) -> int:
        """Wait for the acknowledgement of a message, and return its reason code.

        Raises:
            Undelivered: the connection was lost, or the time is over.
        """
        self._await(lambda: number in self._codes, stopping, "no acknowledgement from the server")
        with self._changed:
            return self._codes.pop(number)

    def close(self) -> None:
        """Say that this program goes offline, and disconnect; a dead server delays it little."""
        if self.is_alive:
            self._patience_seconds = min(self._patience_seconds, _GOODBYE_SECONDS)
            with contextlib.suppress(Undelivered):
                self._say(self._config.offline, threading.Event())
                self._client.disconnect()
                self._await(lambda: False, threading.Event(), "")
        self.drop()

    def drop(self) -> None:
        """End the connection at once, with everything that waits in it.

        A thread that still connects is left behind; it ends after `timeout_seconds`.
        """
        self._is_ending = True
        self._wake()
        self._thread.join(_END_SECONDS)

    def _await(
        self, condition: Callable[[], bool], stopping: threading.Event, complaint: str
    ) -> None:
        """Wait until a condition holds.

        Raises:
            Undelivered: the connection is lost, `timeout_seconds` are over or it should stop.
        """
        deadline = time.monotonic() + self._patience_seconds
        with self._changed:
            while not condition():
                if self._lost is not None:
                    raise self._lost
                if stopping.is_set():
                    raise Undelivered("stopping", "the time for the last events is over")
                if (left := deadline - time.monotonic()) <= 0:
                    raise Undelivered("timeout", complaint)
                self._changed.wait(min(left, _WAIT_SECONDS))

    def _run(self) -> None:
        """Connect, then move bytes until the connection is lost or `drop` is called."""
        try:
            self._connect()
            result = MQTTErrorCode.MQTT_ERR_SUCCESS
            while not self._is_ending and self._client.socket() is not None:
                result = self._step()
            if result == MQTTErrorCode.MQTT_ERR_PROTOCOL:
                raise Undelivered("protocol", "the server sent a malformed packet")
            raise Undelivered("connection", "the connection was lost")
        except Undelivered as error:
            self._note_lost(error)
        except Exception as error:  # the library raises various errors for malformed packets
            self._note_lost(Undelivered("protocol", f"no valid answer: {readable(error)}"))
        finally:
            for each in (self._client.socket(), self._wake_reader, self._wake_writer):
                if each is not None:
                    each.close()

    def _connect(self) -> None:
        """Open the connection; the answer of the server comes later.

        Raises:
            Undelivered: there is no connection.
        """
        config = self._config
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = _MAX_INCOMING_BYTES
        try:
            self._client.connect(
                config.host,
                config.port,
                keepalive=config.keepalive_seconds,
                clean_start=True,
                properties=properties,
            )
        except TimeoutError:
            raise Undelivered("timeout", "the server does not answer") from None
        except ssl.SSLError as error:
            raise Undelivered("tls", f"no trusted encryption: {readable(error)}") from None
        except (OSError, UnicodeError, ValueError) as error:
            raise Undelivered("connection", readable(error)) from None

    def _step(self) -> MQTTErrorCode:
        connected: Any = self._client.socket()
        poller = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
        poller.register(connected, wanted)
        poller.register(self._wake_reader, select.POLLIN)
        has_more = isinstance(connected, ssl.SSLSocket) and connected.pending() > 0
        ready = dict(poller.poll(0 if has_more else _LOOP_SECONDS * 1000))
        if self._wake_reader.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_reader.recv(4096)
        steps: list[Callable[[], MQTTErrorCode]] = []
        if has_more or ready.get(connected.fileno(), 0) & ~select.POLLOUT:
            steps.append(self._client.loop_read)
        if self._client.want_write():
            steps.append(self._client.loop_write)
        for step in (*steps, self._client.loop_misc):
            result = step()
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
                return result
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _note_lost(self, error: Undelivered) -> None:
        with self._changed:
            self._lost = self._lost or error
            self._changed.notify_all()

    def _on_connect(self, *arguments: Any) -> None:
        _, _, _, code, properties = arguments
        with self._changed:
            self._answer = (code.value, properties)
            self._changed.notify_all()

    def _on_publish(self, *arguments: Any) -> None:
        _, _, number, code, _ = arguments
        with self._changed:
            self._codes[number] = code.value
            self._changed.notify_all()

    def _on_disconnect(self, *arguments: Any) -> None:
        _, _, flags, code, _ = arguments
        if flags.is_disconnect_packet_from_server and code.value >= FIRST_FAILURE:
            self._note_lost(undelivered(code.value))
