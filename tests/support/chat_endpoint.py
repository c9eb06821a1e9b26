"""A stand-in for an OpenAI-compatible endpoint, which answers as a test wants."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import http.server
import json
import threading
from collections.abc import Callable
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ChatEndpoint", "ChatRequest", "completion", "reply", "say"]


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """One request: its path, headers and JSON."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def question(self) -> str:
        """The text of the user."""
        return str(self._parts("text")[0]["text"])

    def pictures(self) -> list[NDArray[np.uint8]]:
        """The decoded pictures, RGB `H W C`."""
        found = []
        for part in self._parts("image_url"):
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            coded = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
            bgr_HWC = cv2.imdecode(coded, cv2.IMREAD_COLOR)
            assert bgr_HWC is not None
            found.append(np.asarray(bgr_HWC[..., ::-1], dtype=np.uint8))
        return found

    def _parts(self, kind: str) -> list[dict[str, Any]]:
        content = self.body["messages"][-1]["content"]
        return [part for part in content if part["type"] == kind]


# What the endpoint does with a request; `request.wfile` is the connection.
Behaviour = Callable[[http.server.BaseHTTPRequestHandler, ChatRequest], None]


def completion(text: object) -> bytes:
    """Return a chat completion with this text."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode()


def reply(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    """Return the behaviour that always answers with this body."""

    def behave(handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
        handler.send_response(status)
        for name, value in ({"content-type": "application/json"} | (headers or {})).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def say(answer: str, reason: str = "it looks so") -> Behaviour:
    """Return the behaviour that answers as it was asked to."""
    return reply(completion(json.dumps({"answer": answer, "reason": reason})))


class ChatEndpoint:
    """Listens on this machine from `with` on; notes every request before it answers.

    Attributes:
        behave: what it does with the next request; a test may replace it.
        requests: the requests so far.
        released: a behaviour that hangs waits for it; it is set at the end.
    """

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave = behave or say("yes")
        self.requests: list[ChatRequest] = []
        self.released = threading.Event()
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Handler, self)
        )
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        serve = functools.partial(self._server.serve_forever, 0.02)
        threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def hang(self, handler: http.server.BaseHTTPRequestHandler, request: ChatRequest) -> None:
        """Do not answer before the end of the test."""
        self.released.wait(60)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, endpoint: ChatEndpoint, *arguments: object) -> None:
        self._endpoint = endpoint
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = ChatRequest(self.path, headers, json.loads(data))
        self._endpoint.requests.append(request)
        with contextlib.suppress(OSError):
            self._endpoint.behave(self, request)

    def log_message(self, *arguments: object) -> None:
        pass
