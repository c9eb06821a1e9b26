"""Webhooks against a real web server; signatures are verified by the library of the standard."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.http_client import retry_after_seconds
from stream.sinks.delivery import Gone, Refused, Undelivered
from stream.sinks.webhook import WebhookDelivery
from stream.sinks.webhook_config import WebhookConfig
from tests.support.broker import certificate, free_port
from tests.support.stored_events import stored_event, stored_events
from tests.support.waiting import until
from tests.support.webhook_receiver import Receiver, drip, raw, status, webhook_receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of thirty-two by.").decode()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NEVER = threading.Event()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as running:
        yield running


@contextlib.contextmanager
def delivery(port: int, **settings: Any) -> Iterator[WebhookDelivery]:
    secret = {} if "secret_file" in settings else {"secret": SECRET}
    made = WebhookDelivery(
        WebhookConfig.model_validate(
            {
                "name": "alarm",
                "url": f"http://127.0.0.1:{port}/hooks/T0PSECRET?token=T0PSECRET",
                "allow_private": True,
                "timeout_seconds": 10.0,
                **secret,
                **settings,
            }
        )
    )
    try:
        yield made
    finally:
        made.close()


def test_an_event_is_sent_as_it_is_published_and_signed(receiver: Receiver) -> None:
    stored = stored_event(1, traceparent=TRACE)
    with delivery(receiver.port) as sent:
        sent.deliver([stored], NEVER)
    [request] = receiver.requests
    assert request.body.decode() == stored.event.to_json()
    assert request.path == "/hooks/T0PSECRET?token=T0PSECRET"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["traceparent"] == TRACE
    assert request.is_signed(SECRET)
    assert not request.is_signed(OTHER)


def test_a_batch_is_a_list_of_events_with_their_traces(receiver: Receiver) -> None:
    events = [stored_event(1, traceparent=TRACE), stored_event(2)]
    with delivery(receiver.port, max_batch_events=10) as sent:
        assert sent.max_batch == 10
        sent.deliver(events, NEVER)
    [request] = receiver.requests
    first, second = (json.loads(stored.event.to_json()) for stored in events)
    assert json.loads(request.body) == {
        "schema": "action-events/1",
        "events": [first | {"traceparent": TRACE}, second],
    }
    assert "traceparent" not in request.headers
    assert request.is_signed(SECRET)


def test_the_connection_is_kept(receiver: Receiver) -> None:
    receiver.answer(status(200, b"thanks", Set_Cookie="a=b"), status(500), status(204))
    with delivery(receiver.port) as sent:
        sent.deliver(stored_events(1), NEVER)
        with pytest.raises(Undelivered):
            sent.deliver(stored_events(1, first=2), NEVER)
        sent.deliver(stored_events(1, first=2), NEVER)
    assert len({request.client for request in receiver.requests}) == 1
    assert not any("cookie" in request.headers for request in receiver.requests)


def test_all_secrets_of_a_file_sign_and_a_change_needs_no_restart(
    receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{OTHER}\n")
    with delivery(receiver.port, secret_file=file) as sent:
        sent.deliver(stored_events(1), NEVER)
        file.write_text(OTHER)
        sent.deliver(stored_events(1, first=2), NEVER)
        file.unlink()
        with pytest.raises(Undelivered, match=r"webhooks.alarm.secret_file .* cannot be read"):
            sent.deliver(stored_events(1, first=3), NEVER)
    signed = [[each.is_signed(key) for key in (SECRET, OTHER)] for each in receiver.requests]
    assert signed == [[True, True], [False, True]]


def test_headers_and_token_are_sent(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("X-Tenant: site 7\nX-Empty:\n")
    (tmp_path / "token").write_text("abc.def\n")
    files = {"headers_file": tmp_path / "headers", "token_file": tmp_path / "token"}
    with delivery(receiver.port, **files) as sent:
        sent.deliver(stored_events(1), NEVER)
    headers = receiver.requests[0].headers
    assert headers["authorization"] == "Bearer abc.def"
    assert (headers["x-tenant"], headers["x-empty"]) == ("site 7", "")


def test_a_batch_that_is_sent_again_keeps_body_and_id(receiver: Receiver) -> None:
    receiver.answer(status(500), raw(b""), status(503))
    with delivery(receiver.port, max_batch_events=10) as sent:
        for count in (2, 4, 6):
            with pytest.raises(Undelivered):
                sent.deliver(stored_events(count), NEVER)
        sent.deliver(stored_events(6), NEVER)
    *repeated, last = receiver.requests
    assert len(repeated) == 4
    assert {request.headers["webhook-id"] for request in repeated} == {
        repeated[0].headers["webhook-id"]
    }
    assert {request.body for request in repeated} == {repeated[0].body}
    assert [event["sequence"] for event in last.events] == [3, 4, 5, 6]
    assert last.headers["webhook-id"] != repeated[0].headers["webhook-id"]
    assert all(request.is_signed(SECRET) for request in receiver.requests)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(301, "redirect"), (307, "redirect"), (401, "login"), (404, "status"), (502, "server_error")],
)
def test_everything_but_success_is_tried_again(receiver: Receiver, code: int, reason: str) -> None:
    with webhook_receiver() as elsewhere:
        receiver.answer(status(code, Location=f"http://127.0.0.1:{elsewhere.port}/"))
        with delivery(receiver.port) as sent, pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert elsewhere.requests == []
    assert type(raised.value) is Undelivered
    assert raised.value.reason == reason
    assert raised.value.retry_after_seconds is None


def test_the_receiver_says_when_to_try_again(receiver: Receiver) -> None:
    soon = email.utils.formatdate(time.time() + 60, usegmt=True)
    receiver.answer(status(429, Retry_After="7"), status(503, Retry_After=soon))
    waits = []
    with delivery(receiver.port) as sent:
        for _ in range(2):
            with pytest.raises(Undelivered) as raised:
                sent.deliver(stored_events(1), NEVER)
            waits.append(raised.value.retry_after_seconds)
    assert waits[0] == 7.0
    assert waits[1] is not None
    assert 50 < waits[1] <= 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("99999999", 3600.0), ("-5", None), ("soon", None), ("1e3", None), ("", None)],
)
def test_waits_are_bounded(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(header, 3600.0) == seconds


def test_410_ends_the_sink_and_400_and_422_refuse(receiver: Receiver) -> None:
    receiver.answer(status(410), status(400), status(422))
    with delivery(receiver.port) as sent:
        with pytest.raises(Gone):
            sent.deliver(stored_events(1), NEVER)
        for code in (400, 422):
            with pytest.raises(Refused, match=str(code)):
                sent.deliver(stored_events(1), NEVER)


def test_a_batch_that_is_too_large_is_halved(receiver: Receiver) -> None:
    receiver.answer(status(413), status(413))
    with delivery(receiver.port, max_batch_events=8) as sent:
        sent.deliver(stored_events(8), NEVER)
        assert [len(request.events) for request in receiver.requests] == [8, 4, 2, 2, 2, 2]
        receiver.answer(status(204), status(413), status(413))
        with pytest.raises(Refused) as raised:
            sent.deliver(stored_events(4, first=9), NEVER)
    assert raised.value.delivered == 2  # the third alone is too large


def test_what_was_taken_before_a_failure_is_told(receiver: Receiver) -> None:
    receiver.answer(status(413), status(204), status(500))
    with delivery(receiver.port, max_batch_events=4) as sent, pytest.raises(Undelivered) as raised:
        sent.deliver(stored_events(4), NEVER)
    assert raised.value.delivered == 2


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"HTTP/1.1 204 No Content\r\n\r\n", 0.3),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.05),
        raw(b"", then=lambda: time.sleep(30)),
    ],
    ids=["slow status", "continue for ever", "silence"],
)
def test_a_slow_answer_ends_at_the_deadline(receiver: Receiver, answer: Any) -> None:
    receiver.answer(answer)
    with delivery(receiver.port, timeout_seconds=0.5) as sent:
        started = time.monotonic()
        with pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert time.monotonic() - started < 5
        assert raised.value.reason == "timeout"

        def is_delivered() -> bool:
            with contextlib.suppress(Undelivered):  # half a second is short on a busy machine
                sent.deliver(stored_events(1), NEVER)
                return True
            return False

        assert until(is_delivered)


def test_only_the_status_counts_not_the_body(receiver: Receiver) -> None:
    """A body that is huge, slow or broken is not read to its end, and does not undo a success."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 200_000
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n"
    slow = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", then=lambda: time.sleep(30))
    receiver.answer(raw(endless), raw(broken), slow)
    with delivery(receiver.port, timeout_seconds=20) as sent:
        started = time.monotonic()
        for number in range(1, 5):
            sent.deliver(stored_events(1, first=number), NEVER)
        assert time.monotonic() - started < 10
    assert [event["sequence"] for event in receiver.events] == [1, 2, 3, 4]


@pytest.mark.parametrize("answer", [raw(b""), raw(b"SSH-2.0-x\r\n"), raw(b"HTTP/1.1 2")])
def test_a_broken_answer_is_no_delivery(receiver: Receiver, answer: Any) -> None:
    receiver.answer(answer)
    with delivery(receiver.port) as sent:
        with pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert raised.value.reason == "protocol"
        sent.deliver(stored_events(1), NEVER)


def test_a_server_that_is_away_and_a_stop_are_told(receiver: Receiver) -> None:
    with delivery(free_port()) as sent, pytest.raises(Undelivered) as raised:
        sent.deliver(stored_events(1), NEVER)
    assert raised.value.reason == "connection"
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    receiver.answer(raw(b"", then=lambda: time.sleep(30)))
    started = time.monotonic()
    with delivery(receiver.port, timeout_seconds=30) as sent, pytest.raises(Undelivered):
        sent.deliver(stored_events(1), stopping)
    assert time.monotonic() - started < 5


def test_certificates_are_verified(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("openssl is missing")
    context, authority = made
    with webhook_receiver(tls=context) as running:
        url = f"https://localhost:{running.port}/"
        with delivery(running.port, url=url, ca_file=authority) as sent:
            sent.deliver(stored_events(1), NEVER)
        with delivery(running.port, url=url) as sent, pytest.raises(Undelivered) as raised:
            sent.deliver(stored_events(1), NEVER)
        assert raised.value.reason == "tls"
    assert [event["sequence"] for event in running.events] == [1]


def test_nothing_shows_a_secret(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("T0PSECRET-token")
    caplog.set_level(logging.DEBUG)
    receiver.answer(status(302, Location="http://x/T0PSECRET"), status(500, b"T0PSECRET"), raw(b""))
    texts = []
    with delivery(receiver.port, token_file=tmp_path / "token") as sent:
        texts.append(sent.address)
        for _ in range(3):
            with pytest.raises(Undelivered) as raised:
                sent.deliver(stored_events(1), NEVER)
            texts.append(str(raised.value))
        sent.deliver(stored_events(1), NEVER)
    assert texts[0] == f"http://127.0.0.1:{receiver.port}"
    for text in (*texts, *caplog.messages):
        assert "T0PSECRET" not in text
        assert SECRET.removeprefix("whsec_") not in text
