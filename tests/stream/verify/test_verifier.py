"""Second looks at endpoints that answer, are slow, absent, wrong, talkative or ask for a pause."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.media.preprocess import PreprocessConfig
from stream.events.verification import Verification
from stream.metrics import Metrics
from stream.verify.circuit import Circuit
from stream.verify.config import VerifyConfig
from stream.verify.verifier import Verifier
from tests.support.chat_endpoint import Behaviour, ChatEndpoint, ChatRequest, completion, reply, say
from tests.support.factory import make_event
from tests.support.waiting import until

FRAMING = PreprocessConfig(short_side=48, height=48, width=80)
CLIP = torch.zeros(3, 32, 48, 80)


class Rig:
    """A verifier with its metrics."""

    def __init__(self, address: str, api_key: str | None = None, **settings: Any) -> None:
        self.metrics = Metrics()
        fields = {"endpoint": address, "model": "vlm", "timeout_seconds": 5.0} | settings
        config = VerifyConfig.model_validate(fields)
        self.verifier = Verifier(config, FRAMING, self.metrics.verify, api_key)
        self.answers: list[Verification] = []
        self.number = 0

    def offer(self, **fields: Any) -> None:
        self.number += 1
        self.verifier.offer(make_event(self.number, **fields), CLIP, owner=self.number)

    def failures(self) -> dict[str, int]:
        """The failures by reason."""
        return self.metrics.by_label(self.metrics.verify.failures, "reason")

    def answer(self) -> Verification:
        """Wait for one answer."""
        assert until(self._collect, 10), self.failures()
        return self.answers.pop(0)

    def _collect(self) -> bool:
        for event, owner, verification in self.verifier.answers():
            assert owner == event.sequence
            self.answers.append(verification)
        return bool(self.answers)

    def fails(self, seconds: float = 10) -> dict[str, int]:
        """Offer one look, wait for its failure and return all failures."""
        before = sum(self.failures().values())
        self.offer()
        assert until(lambda: sum(self.failures().values()) > before, seconds)
        assert self.verifier.answers() == []
        return self.failures()


@contextlib.contextmanager
def running(address: str, **settings: Any) -> Iterator[Rig]:
    """A verifier that runs; it must end in time whatever the endpoint does."""
    rig = Rig(address, **settings)
    rig.verifier.start()
    try:
        yield rig
    finally:
        started_at = time.monotonic()
        rig.verifier.finish(0.0)
        assert time.monotonic() - started_at < 3
        assert not rig.verifier.is_alive
        assert rig.verifier.failure is None


def test_a_question_with_pictures_gets_its_answer() -> None:
    with (
        ChatEndpoint(say("no", "he\nkneels")) as endpoint,
        running(endpoint.address, api_key="sk-1", frames=3, prompts={"fall": "Fall?"}) as rig,
    ):
        rig.offer()
        found = rig.answer()
        assert (found.answer, found.reason, found.model) == ("no", "he kneels", "vlm")
        assert 0 < found.latency_seconds < 10
        [request] = endpoint.requests
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer sk-1"
        assert (request.question, len(request.pictures())) == ("Fall?", 3)
        assert request.body["model"] == "vlm"
        assert request.body["response_format"]["type"] == "json_schema"
        assert "cam" not in json.dumps(request.body["messages"][-1]["content"][0])
        assert rig.failures() == {}


def test_an_answer_in_words_of_its_own_is_unclear_and_no_failure() -> None:
    with ChatEndpoint(reply(completion("I\x1b[2J cannot help"))) as endpoint:  # noqa: SIM117
        with running(endpoint.address) as rig:
            rig.offer()
            found = rig.answer()
            assert (found.answer, found.reason) == ("unclear", "I[2J cannot help")
            assert rig.failures() == {}


def drip(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
    """Send a byte now and then, each well within the time for one read."""
    handler.send_response(200)
    handler.send_header("content-length", "60000")
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drip_headers(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
    """Never come to the end of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(600):
        handler.wfile.write(f"x-{number}: 1\r\n".encode())
        time.sleep(0.05)


def talk(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
    """Send a body without end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65_536)


def garble(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
    """Answer with something that is not HTTP."""
    handler.wfile.write(b"\x00\x01 no http\r\n\r\n")
    handler.close_connection = True


def break_off(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
    """Close the connection in the middle of the body."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (drip, "timeout"),
        (drip_headers, "timeout"),
        (talk, "too_large"),
        (reply(b" " * 70_000), "too_large"),
        (garble, "invalid"),
        (break_off, "invalid"),
        (reply(b"<html>It works!</html>", headers={"content-type": "text/html"}), "invalid"),
        (reply(b'{"error": {}}'), "invalid"),
        (reply(b"\x1f\x8b", headers={"content-encoding": "gzip"}), "invalid"),
        (reply(b"", 204), "invalid"),
        (reply(b"", 302, {"location": "/v1/other"}), "redirect"),
        (reply(b"{}", 401), "unauthorised"),
        (reply(b"{}", 403), "unauthorised"),
        (reply(b"{}", 404), "refused"),
        (reply(b"{}", 429), "rate_limited"),
        (reply(b"{}", 500), "server_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_endpoint_costs_a_count(behave: Behaviour, reason: str) -> None:
    with (
        ChatEndpoint(behave) as endpoint,
        running(endpoint.address, timeout_seconds=0.4) as rig,
    ):
        started_at = time.monotonic()
        assert rig.fails() == {reason: 1}
        assert time.monotonic() - started_at < 2.5
        assert len(endpoint.requests) == 1


def test_an_endpoint_that_hangs_or_is_absent_costs_a_count() -> None:
    with ChatEndpoint() as endpoint:
        endpoint.behave = endpoint.hang
        with running(endpoint.address, timeout_seconds=0.3) as rig:
            assert rig.fails() == {"timeout": 1}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with running(address) as rig:
            assert rig.fails() == {"unreachable": 1}


def test_a_secret_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with (
        ChatEndpoint(reply(b"sk-secret is wrong", 401)) as endpoint,
        running(endpoint.address, api_key="sk-secret") as rig,
    ):
        rig.fails()
    assert "check verify.api_key_file" in caplog.text
    assert "sk-secret" not in caplog.text


def test_an_endpoint_without_response_format_is_asked_without_it() -> None:
    def behave(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
        is_refused = "response_format" in request.body
        (reply(b"{}", 400) if is_refused else reply(completion("No.")))(handler, request)

    with ChatEndpoint(behave) as endpoint, running(endpoint.address) as rig:
        for _ in range(2):
            rig.offer()
            assert rig.answer().answer == "no"
        asked = ["response_format" in request.body for request in endpoint.requests]
        assert asked == [True, False, False]
        assert rig.failures() == {}


def test_only_what_is_wanted_is_looked_at() -> None:
    wanted = {"actions": ["fall"], "cameras": ["cam"], "max_confidence": 0.8}
    with ChatEndpoint() as endpoint, running(endpoint.address, **wanted) as rig:
        rig.offer(action="hug")
        rig.offer(camera="other")
        rig.offer()
        rig.answer()
        assert len(endpoint.requests) == 1
        assert rig.failures() == {}
    with ChatEndpoint() as endpoint, running(endpoint.address, min_confidence=0.8) as rig:
        rig.offer()  # its confidence is 0.75
        rig.verifier.finish(5)
        assert endpoint.requests == []


def test_the_queue_is_bounded_and_offering_never_waits() -> None:
    with ChatEndpoint() as endpoint:
        endpoint.behave = endpoint.hang
        with running(endpoint.address, max_waiting=3) as rig:
            rig.offer()
            assert until(lambda: len(endpoint.requests) == 1)
            started_at = time.monotonic()
            for _ in range(100):
                rig.offer()
            assert time.monotonic() - started_at < 0.5
            assert rig.failures() == {"queue_full": 97}
            waiting = rig.metrics.registry.get_sample_value("cidc_verifications_waiting")
            assert waiting == 4
            rig.verifier.finish(0.1)  # those that wait are dropped, also the one in progress
            assert rig.failures() == {"queue_full": 97, "shutdown": 4}
            rig.offer()
            assert rig.failures()["shutdown"] == 5
            assert len(endpoint.requests) == 1


def test_waiting_looks_are_taken_at_the_end_of_a_run_while_there_is_time() -> None:
    with ChatEndpoint() as endpoint, running(endpoint.address) as rig:
        for _ in range(5):
            rig.offer()
        rig.verifier.finish(10)
        assert len(rig.verifier.answers()) == 5
        assert rig.failures() == {}


def test_no_more_than_so_many_looks_in_a_minute() -> None:
    with ChatEndpoint() as endpoint, running(endpoint.address, max_per_minute=2) as rig:
        for _ in range(5):
            rig.offer()
        rig.answer()
        assert rig.failures() == {"max_per_minute": 3}


def test_after_three_failures_nothing_is_sent_until_the_pause_is_over() -> None:
    with ChatEndpoint(reply(b"", 500)) as endpoint, running(endpoint.address) as rig:
        for _ in range(3):
            rig.fails()
        assert rig.fails() == {"server_error": 3, "circuit_open": 1}
        assert len(endpoint.requests) == 3
    with (
        ChatEndpoint(reply(b"", 429, {"retry-after": "1"})) as endpoint,
        running(endpoint.address) as rig,
    ):
        rig.fails()
        assert rig.fails() == {"rate_limited": 1, "circuit_open": 1}
        endpoint.behave = say("yes")
        time.sleep(1.1)
        rig.offer()
        assert rig.answer().answer == "yes"
        assert len(endpoint.requests) == 2


def test_the_pause_doubles_up_to_five_minutes_and_a_success_ends_it() -> None:
    now = 0.0
    circuit = Circuit(clock=lambda: now)
    assert [circuit.fail() for _ in range(10)] == [
        None, None, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0,
    ]  # fmt: skip
    assert circuit.is_open
    now = 300.0
    assert not circuit.is_open
    assert circuit.succeed()
    assert not circuit.succeed()
    assert circuit.fail() is None
    assert circuit.fail(1e9) == 300.0
    assert circuit.fail(-5.0) == 1.0
