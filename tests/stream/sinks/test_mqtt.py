"""MQTT against a real mosquitto, and against servers that answer nothing or nonsense."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.events.sink_registry import OutboxSink
from stream.sink_metrics import SinkMetrics
from stream.sinks.delivery import Refused, Undelivered
from stream.sinks.mqtt import MqttDelivery
from stream.sinks.mqtt_config import MqttConfig
from stream.sinks.worker import SinkTimings, SinkWorker
from tests.support.broker import Proxy, certificate, free_port
from tests.support.mosquitto import Mosquitto, Subscriber, mosquitto, program, subscriber
from tests.support.stored_events import stored_event, stored_events
from tests.support.waiting import until

pytestmark = pytest.mark.broker
NEVER = threading.Event()
STATUS = "cidc/status/me"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


@contextlib.contextmanager
def delivery(port: int, **settings: Any) -> Iterator[MqttDelivery]:
    tree = {"name": "home", "url": f"mqtt://127.0.0.1:{port}", "timeout_seconds": 5.0, **settings}
    made = MqttDelivery(MqttConfig.model_validate(tree), client_id="me")
    try:
        yield made
    finally:
        made.close()


def test_an_event_is_published_with_its_properties(server: Mosquitto) -> None:
    stored = stored_event(1, traceparent=TRACE, action="sit/down")
    with subscriber(server.port, "cidc/#") as reader, delivery(server.port) as sent:
        sent.deliver([stored], NEVER)
        assert until(lambda: bool(reader.events()))
    [message] = [each for each in reader.messages if each.payload.startswith(b"{")]
    assert message.topic == "cidc/events/door/sit_down/started"
    assert message.payload.decode() == stored.event.to_json()
    assert (message.qos, message.retain) == (1, False)
    assert message.properties is not None
    assert message.properties.UserProperty == [
        ("schema", "action-event/1"),
        ("event_id", stored.event.event_id),
        ("traceparent", TRACE),
    ]
    assert message.properties.ContentType == "application/json"


def test_mosquitto_sub_reads_events_as_the_documentation_says(server: Mosquitto) -> None:
    command = [program("mosquitto_sub"), "-V", "5", "-h", "127.0.0.1", "-p", str(server.port)]
    command += ["-t", "cidc/events/+/fall/#", "-C", "1", "-W", "10", "-F", "%t %P"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with delivery(server.port) as sent:
        number = 0
        while reader.poll() is None:
            number += 1
            sent.deliver(stored_events(1, first=number), NEVER)
            time.sleep(0.05)
    line, _ = reader.communicate(timeout=5)
    assert line.startswith("cidc/events/door/fall/started ")
    assert "schema:action-event/1 event_id:" in line


def test_other_clients_see_whether_it_is_connected(server: Mosquitto) -> None:
    """Also if it dies without a word: then the server sends the message."""
    proxy = Proxy(server.port, free_port())
    with subscriber(server.port, "cidc/#") as reader:
        with delivery(proxy.port) as sent:
            sent.keep_connected(NEVER)
            assert until(lambda: reader.texts(STATUS) == ["online"])
            proxy.reset()
            assert until(lambda: reader.texts(STATUS) == ["online", "offline"])

            def is_back() -> bool:
                sent.keep_connected(NEVER)  # as the sink's thread does, again and again
                return reader.texts(STATUS)[2:] == ["online"]

            assert until(is_back)
        assert until(lambda: reader.texts(STATUS)[3:] == ["offline"])
    proxy.cut()
    with subscriber(server.port, STATUS, client_id="late") as late:
        assert until(lambda: late.texts(STATUS) == ["offline"])  # it is retained


def test_a_sink_without_events_is_connected_and_says_when_it_is_not(
    server: Mosquitto, tmp_path: Path
) -> None:
    config = MqttConfig(name="home", url=f"mqtt://127.0.0.1:{server.port}")
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"), sinks=[OutboxSink("home")])
    worker = SinkWorker(
        config,
        MqttDelivery(config, client_id="me"),
        outbox.of("home"),
        SinkMetrics(CollectorRegistry()).of("home"),
        timings=SinkTimings(backoff_initial_seconds=0.1, backoff_max_seconds=0.2),
    )
    with subscriber(server.port, STATUS) as reader:
        worker.start()
        assert until(lambda: reader.texts(STATUS) == ["online"])
        server.kill()
        assert until(lambda: worker.problem is not None)
        server.start()
        assert reader.is_ready()
        assert until(lambda: worker.problem is None)
        assert until(lambda: reader.texts(STATUS)[-1] == "online")
        worker.close()
        assert until(lambda: reader.texts(STATUS)[-1] == "offline")
    outbox.close()


def test_a_server_that_loses_acknowledgements_gets_the_events_again_in_order(
    server: Mosquitto,
) -> None:
    """The connection ends between PUBLISH and PUBACK; nothing is lost, nothing changes places."""
    proxy = Proxy(server.port, free_port())
    with subscriber(server.port, "cidc/events/#") as reader, delivery(proxy.port) as sent:
        sent.deliver(stored_events(10), NEVER)
        proxy.lose_replies()

        def cut() -> None:
            until(lambda: len(reader.events()) > 10)  # the server has some that it acknowledged
            proxy.cut()

        threading.Thread(target=cut, daemon=True).start()
        events = stored_events(200, first=11)
        with pytest.raises(Undelivered) as raised:
            sent.deliver(events, NEVER)
        assert raised.value.reason in ("connection", "timeout")
        with pytest.raises(Undelivered):
            sent.deliver(events, NEVER)
        proxy.restore()
        sent.deliver(events[raised.value.delivered :], NEVER)
        assert until(lambda: bool(reader.events()) and reader.events()[-1]["sequence"] == 210)
    proxy.cut()
    numbers = [event["sequence"] for event in reader.events()]
    assert list(dict.fromkeys(numbers)) == list(range(1, 211))  # the first of each, in order
    assert len(numbers) > 210  # some came twice


def wait_until_quiet(reader: Subscriber) -> None:
    """Wait until the server has passed on what it acknowledged: it keeps nothing when it dies."""
    before = -1
    while len(reader.events()) != before:
        before = len(reader.events())
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_server_loses_nothing(server: Mosquitto) -> None:
    """Killed and started again while events are published, several times."""
    events = [
        stored_event(number, ("door", "hall", "yard")[number % 3]) for number in range(1, 1501)
    ]
    proxy = Proxy(server.port, free_port())
    failures = done = 0
    stopped = threading.Event()

    def disturb() -> None:
        for _ in range(2):
            time.sleep(0.15)
            proxy.cut()
            wait_until_quiet(reader)
            server.kill()
            time.sleep(0.15)
            server.start()
            if reader.is_ready():  # what is published while no one reads is kept by no one
                proxy.restore()
        stopped.set()

    with subscriber(server.port, "cidc/events/#") as reader:
        with delivery(proxy.port, max_in_flight=50) as sent:
            threading.Thread(target=disturb, daemon=True).start()
            while done < len(events):
                # Not faster than the disturbance, so that all of it happens in between.
                count = len(events) if stopped.is_set() else 20
                try:
                    sent.deliver(events[done : done + count][:1000], NEVER)
                    done = min(len(events), done + min(count, 1000))
                except Undelivered as error:
                    failures += 1
                    done += error.delivered
                time.sleep(0.0 if stopped.is_set() else 0.02)
        assert until(lambda: bool(reader.events()) and reader.events()[-1]["sequence"] == 1500)
    proxy.cut()
    assert failures >= 2
    for camera in ("door", "hall", "yard"):
        seen = [each["sequence"] for each in reader.events() if each["camera_id"] == camera]
        sent_ = [each.event.sequence for each in events if each.event.camera_id == camera]
        assert list(dict.fromkeys(seen)) == sent_


def test_tls_and_password(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("openssl is missing")
    _, authority = made
    passwords = tmp_path / "passwords"
    command = [program("mosquitto_passwd"), "-b", "-c", str(passwords), "cidc", "hunter2"]
    subprocess.run(command, check=True, capture_output=True)
    for file in (passwords, tmp_path / "key.pem", tmp_path):
        file.chmod(0o755)
    lines = (f"certfile {authority}", f"keyfile {tmp_path / 'key.pem'}")
    lines += (f"password_file {passwords}",)
    (tmp_path / "right").write_text("hunter2\n")
    (tmp_path / "wrong").write_text("T0PSECRET\n")
    with mosquitto(tmp_path, *lines, anonymous=False) as server:
        login = {
            "url": f"mqtts://localhost:{server.port}",
            "username": "cidc",
            "password_file": tmp_path / "right",
            "ca_file": authority,
        }
        with delivery(server.port, **login) as sent:
            sent.deliver(stored_events(300), NEVER)
        wrong = login | {"password_file": tmp_path / "wrong"}
        with delivery(server.port, **wrong) as sent, pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert raised.value.reason in ("login", "not_authorised")
        assert "login" in str(raised.value)
        assert "T0PSECRET" not in str(raised.value)
        unknown = login | {"ca_file": None}
        with delivery(server.port, **unknown) as sent, pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert raised.value.reason == "tls"


def test_a_topic_that_is_not_allowed_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite cidc/events/door/#\ntopic cidc/status/#\n")
    acl = f"acl_file {tmp_path / 'acl'}"
    with mosquitto(tmp_path, acl) as server, delivery(server.port) as sent:
        batch = [*stored_events(3), stored_event(4, "hall"), stored_event(5)]
        with pytest.raises(Undelivered, match="cidc/events/hall/fall/started") as raised:
            sent.deliver(batch, NEVER)
        assert type(raised.value) is Undelivered
        assert (raised.value.reason, raised.value.delivered) == ("not_authorised", 3)


def test_a_server_that_refuses_the_status_message_still_gets_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "acl").write_text("topic readwrite cidc/events/#\n")
    acl = f"acl_file {tmp_path / 'acl'}"
    with mosquitto(tmp_path, acl) as server, delivery(server.port) as sent:
        sent.deliver(stored_events(3), NEVER)
    assert "'online' on cidc/status/me was refused" in caplog.text


@pytest.mark.parametrize("line", ["max_packet_size 400", "message_size_limit 200"])
def test_an_event_that_is_too_large_is_refused(tmp_path: Path, line: str) -> None:
    with (
        mosquitto(tmp_path, line) as server,
        delivery(server.port, topic="{camera}") as sent,
        pytest.raises(Refused) as raised,
    ):
        sent.deliver(stored_events(2), NEVER)
    assert raised.value.delivered == 0


def test_the_server_says_how_many_events_may_wait(tmp_path: Path) -> None:
    few = "max_inflight_messages 3"
    with mosquitto(tmp_path, few) as server, delivery(server.port) as sent:
        sent.deliver(stored_events(50), NEVER)
        assert sent._connection is not None
        assert sent._connection.receive_maximum == 3


class Scripted:
    """A server that accepts connections and sends these bytes."""

    def __init__(self, answer: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._answer = answer
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                self._open.append(accepted)
                accepted.sendall(self._answer)

    def close(self) -> None:
        for each in (self._listening, *self._open):
            each.close()


CONNECTED = b"\x20\x03\x00\x00\x00"


@pytest.mark.parametrize(
    ("answer", "scheme", "reason"),
    [
        (b"", "mqtt", "timeout"),
        (b"", "mqtts", "timeout"),
        (CONNECTED, "mqtt", "timeout"),
        (CONNECTED[:3], "mqtt", "timeout"),
        (b"\x20\x03\x00\x86\x00", "mqtt", "login"),
        (b"\x20\x03\x00\x9a\x00", "mqtt", "retain"),
        (b"\x20\x05\x00\x00\x02\x24\x00", "mqtt", "quality"),
        (b"\x20\x02\x00\x01", "mqtt", "protocol"),
        (b"\x20\xff\xff\xff\xff\xff", "mqtt", "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20, "mqtt", "protocol"),
        (CONNECTED + b"\xe0\x02\x8b\x00", "mqtt", "unavailable"),
        (CONNECTED + b"\xe0\x02\x8e\x00", "mqtt", "taken_over"),
    ],
)
def test_servers_that_answer_something_else(answer: bytes, scheme: str, reason: str) -> None:
    scripted = Scripted(answer)
    url = f"{scheme}://127.0.0.1:{scripted.port}"
    seconds = 0.5 if reason == "timeout" else 10.0
    threads = threading.active_count()
    started = time.monotonic()
    with (
        delivery(scripted.port, url=url, timeout_seconds=seconds) as sent,
        pytest.raises(Undelivered) as raised,
    ):
        sent.deliver(stored_events(1), NEVER)
    assert time.monotonic() - started < 5
    assert raised.value.reason == reason
    assert until(lambda: threading.active_count() <= threads)
    scripted.close()


def test_a_stop_ends_the_wait() -> None:
    scripted = Scripted(CONNECTED)
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    started = time.monotonic()
    with (
        delivery(scripted.port, timeout_seconds=30, status_topic=None) as sent,
        pytest.raises(Undelivered),
    ):
        sent.deliver(stored_events(1), stopping)
    assert time.monotonic() - started < 5
    scripted.close()


def test_a_stop_ends_a_connection_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets to a server behind a firewall vanish: connecting takes all of its time."""
    hanging = threading.Event()

    def vanish(*_: Any, **__: Any) -> None:
        hanging.wait(10)
        raise TimeoutError

    monkeypatch.setattr("paho.mqtt.client.socket.create_connection", vanish)
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    started = time.monotonic()
    with delivery(1, timeout_seconds=30) as sent, pytest.raises(Undelivered):
        sent.deliver(stored_events(1), stopping)
    assert time.monotonic() - started < 5
    hanging.set()


def test_descriptors_above_1023_work(server: Mosquitto) -> None:
    """A pipeline with many cameras has that many; `select` cannot use them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("the limit of open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(Path("/dev/null").open())
        with delivery(server.port) as sent:
            sent.deliver(stored_events(20), NEVER)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
