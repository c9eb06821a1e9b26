"""A web server that takes webhooks as its script says, and remembers what it was sent."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from standardwebhooks import Webhook

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclasses.dataclass
class Request:
    """A request that came: its headers in small letters, its body and the connection it used."""

    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]
    path: str

    @property
    def events(self) -> list[dict[str, Any]]:
        tree = json.loads(self.body)
        return list(tree["events"]) if "events" in tree else [tree]

    def is_signed(self, secret: str) -> bool:
        try:
            Webhook(secret).verify(self.body, self.headers)
        except Exception:
            return False
        return True


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status; the names of headers have `_` for `-`."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(text: bytes, then: Callable[[], object] = lambda: None) -> Answer:
    """Answer with these bytes, then close the connection."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(text)
        handler.wfile.flush()
        then()
        handler.close_connection = True

    return answer


def drip(text: bytes, seconds: float) -> Answer:
    """Answer with a byte each so many seconds."""

    def answer(handler: Handler) -> None:
        for byte in text:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(seconds)
        handler.close_connection = True

    return answer


class Receiver:
    """The running server; `script` has the answers to come, after which all are 204."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.script: list[Answer] = []
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        receiver = self

        class _Handler(Handler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(headers, body, self.client_address, self.path)
                with receiver._lock:
                    receiver.requests.append(request)
                    answer = receiver.script.pop(0) if receiver.script else status(204)
                with contextlib.suppress(OSError):
                    answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events that came, in order."""
        with self._lock:
            return [event for request in self.requests for event in request.events]

    def answer(self, *answers: Answer) -> None:
        """Give these answers next."""
        with self._lock:
            self.script.extend(answers)

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def webhook_receiver(
    answers: Sequence[Answer] = (), tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine."""
    receiver = Receiver(tls=tls)
    receiver.script.extend(answers)
    try:
        yield receiver
    finally:
        receiver.close()
