"""A receiver of webhooks in a process of its own, which can be killed and started again.

It verifies each request, and writes it to a file before it answers.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import json
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.support.broker import free_port, wait_until_listening
from tests.support.webhook_receiver import Request


class WebhookProcess:
    """The running process; `requests` has what all processes so far were sent."""

    def __init__(self, file: Path, secret: str) -> None:
        self.port = free_port()
        self._file = file
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", __name__, str(self.port), str(self._file), self._secret]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT)
        wait_until_listening(self.port, self._process)

    def kill(self) -> None:
        """Kill it, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def requests(self) -> list[tuple[Request, bool]]:
        """All requests that were read completely, in order, and whether each was signed."""
        lines = self._file.read_bytes().split(b"\n")[:-1] if self._file.exists() else []
        found = []
        for line in lines:
            tree = json.loads(line)
            body = base64.b64decode(tree["body"])
            request = Request(tree["headers"], body, ("", 0), tree["path"])
            found.append((request, tree["is_signed"]))
        return found


def main() -> None:
    """Serve on a port, and append the requests to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("secret")
    options = parser.parse_args()
    with options.file.open("ab", buffering=0) as file:

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(headers, body, self.client_address, self.path)
                tree = {
                    "headers": headers,
                    "is_signed": request.is_signed(options.secret),
                    "body": base64.b64encode(body).decode(),
                    "path": self.path,
                }
                file.write(json.dumps(tree).encode() + b"\n")  # one call: whole or not at all
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        http.server.HTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
