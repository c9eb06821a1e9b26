"""A worker process without a pipeline, for tests: it says that it runs, and serves a few paths.

Run as a program with the number of the pipe for messages. It stops when its standard input ends, or
at SIGTERM, and then sends a summary. A file `die-NAME` in its folder makes it end with status 3.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

CAMERA = {"id": "a", "state": "running"}
SINK = {"sink": "hook", "address": "https://a.example", "problem": None, "waiting": 3}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as a pipeline with one camera does."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/metrics" and "openmetrics" in self.headers.get("Accept", ""):
            exemplar = f'# {{trace_id="{os.getpid()}"}} 0.5'
            lines = ("# TYPE h histogram", f'h_bucket{{le="+Inf"}} 1.0 {exemplar}', "# EOF", "")
            self.answer(200, "\n".join(lines))
        elif self.path == "/metrics":
            self.answer(200, "# HELP n Number\n# TYPE n gauge\nn 1.0\n")
        elif self.path == "/health":
            checks = {"startup": None, "ready": None, "live": None}
            report = {"checks": checks, "cameras": {"running": 1}, "problems": [], "not_taken": []}
            report |= {"load": 0.5, "load_parts": {"network": 0.5}, "sinks": [SINK]}
            self.answer(200, json.dumps(report))
        elif self.path == "/cameras":
            self.answer(200, json.dumps([CAMERA | {"pid": os.getpid()}]))
        else:
            self.answer(404, json.dumps({"error": f"there is no camera at {self.path}"}))

    def do_POST(self) -> None:
        """Return what was sent."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, json.dumps({"sent": json.loads(body or b"{}"), "pid": os.getpid()}))

    def do_DELETE(self) -> None:
        """Remove nothing."""
        self.answer(204, "")

    def answer(self, status: int, text: str) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def main() -> int:
    """Run until the end of standard input or SIGTERM."""
    folder = Path(sys.argv[1])
    messages = os.fdopen(int(sys.argv[2]), "w")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())

    def send(**message: Any) -> None:
        print(json.dumps(message), file=messages, flush=True)

    def follow() -> None:
        while os.read(0, 4096):
            pass
        (folder / f"orphan-{os.getpid()}").touch()
        stop.set()

    threading.Thread(target=follow, daemon=True).start()
    if (folder / "refuse").exists():
        print("error: refused on purpose", file=sys.stderr)
        return 2
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    send(kind="started", http=f"http://127.0.0.1:{server.server_port}")
    while not stop.is_set():
        send(kind="ended", ended=(folder / "ended").exists(), cameras=1)
        time.sleep(0.05)
    send(kind="summary", summary={"pid": os.getpid()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
