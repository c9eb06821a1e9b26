"""An RTSP server whose answers a test chooses."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Mapping

from tests.support.chaos import TcpCamera
from tests.support.odd_rtsp import rtsp_requests

__all__ = ["RtspAnswer", "ScriptedRtsp", "redirect"]


@dataclasses.dataclass(frozen=True)
class RtspAnswer:
    """What the server answers to one request."""

    status: str = "200 OK"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""


def redirect(url: str) -> RtspAnswer:
    """Return an answer that sends the client to another address."""
    return RtspAnswer("302 Found", {"Location": url})


class ScriptedRtsp(TcpCamera):
    """An RTSP server at `rtsp://127.0.0.1:PORT`; it keeps the headers of every request.

    Args:
        answer: gives the answer from the method and the headers, with names in lower case.
    """

    def __init__(self, answer: Callable[[str, Mapping[str, str]], RtspAnswer]) -> None:
        self._answer = answer
        self.requests: list[Mapping[str, str]] = []
        super().__init__(self._talk)

    def address(self, *, login: str = "", host: str = "127.0.0.1") -> str:
        """Return the address, with a login such as `user:password@`."""
        return f"rtsp://{login}{host}:{self.port}/live"

    def _talk(self, client: socket.socket, stop: threading.Event) -> None:
        client.settimeout(0.5)
        for method, headers in rtsp_requests(client, stop):
            self.requests.append(headers)
            answer = self._answer(method, headers)
            lines = [f"RTSP/1.0 {answer.status}", f"CSeq: {headers.get('cseq', '0')}"]
            lines += [f"{name}: {value}" for name, value in answer.headers.items()]
            lines += [f"Content-Length: {len(answer.body)}", "", answer.body]
            client.sendall("\r\n".join(lines).encode())
