"""A real MQTT server, mosquitto from Debian, that tests start, kill and start again."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.support.broker import free_port
from tests.support.waiting import until


def program(name: str = "mosquitto") -> str:
    """Return the path of a program of mosquitto; skip the test where it is missing."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install mosquitto")
    return found


class Mosquitto:
    """The server; `lines` is the rest of its configuration file."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self._program = program()
        self.port = port or free_port()
        self._file = folder / f"mosquitto-{self.port}.conf"
        self._file.write_text(
            "\n".join(("user root", f"listener {self.port} 127.0.0.1", *lines, ""))
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not until(self._listens):
            raise RuntimeError(f"mosquitto did not start (status {self._process.poll()})")

    def _listens(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 0.5),
        ):
            return True
        return False

    def kill(self) -> None:
        """Kill it; nothing is written to disk first."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def mosquitto(folder: Path, *lines: str, anonymous: bool = True) -> Iterator[Mosquitto]:
    """Run the server on a free port of this machine."""
    server = Mosquitto(folder, f"allow_anonymous {str(anonymous).lower()}", *lines)
    try:
        yield server
    finally:
        server.kill()


class Subscriber:
    """Another client, which reconnects by itself and remembers every message."""

    def __init__(self, port: int, *topics: str, client_id: str = "reader") -> None:
        self.messages: list[MQTTMessage] = []
        self._ready = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(0.05, 0.2)

        def subscribe(client: Client, *_: Any) -> None:
            client.subscribe([(topic, 1) for topic in topics])

        self._client.on_connect = subscribe
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, message: self.messages.append(message)
        self._client.on_disconnect = lambda *_: self._ready.clear()
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.loop_start()
        assert self.is_ready()

    def is_ready(self) -> bool:
        """Wait until the server has taken the subscription."""
        return self._ready.wait(10)

    def texts(self, topic: str) -> list[str]:
        """The payloads on a topic so far."""
        return [each.payload.decode() for each in list(self.messages) if each.topic == topic]

    def events(self) -> list[dict[str, Any]]:
        """All messages that are events, in order."""
        texts = [each.payload.decode() for each in list(self.messages)]
        return [json.loads(text) for text in texts if text.startswith("{")]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def subscriber(port: int, *topics: str, client_id: str = "reader") -> Iterator[Subscriber]:
    """Connect a client that subscribes."""
    client = Subscriber(port, *topics, client_id=client_id)
    try:
        yield client
    finally:
        client.close()
