"""Look for cameras at the request of a client, in a process of its own.

What devices send is read there, and the process ends with its time: a device can neither hold a
thread of the pipeline nor take its memory. One discovery runs at a time.
"""

from __future__ import annotations

import datetime
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from configs import CameraError, readable
from stream.serve.discovery_schemas import DiscoveryRequest

__all__ = ["DiscoveryRunner"]

_COMMAND = (sys.executable, "-m", "stream", "discover")
# Devices are asked 16 at a time; more than the answers of a network that is this slow is given up.
_MAX_SECONDS = 60.0
_log = logging.getLogger(__name__)


class DiscoveryRunner:
    """Runs the command `discover`, and keeps its last report. Any thread may call it.

    Args:
        command: starts the process; options are appended.
    """

    def __init__(self, command: Sequence[str] = _COMMAND) -> None:
        self._command = tuple(command)
        self._running = threading.Lock()
        self._report: dict[str, Any] = {
            "devices": [],
            "dropped": {},
            "finished_at": None,
            "seconds": None,
        }

    @property
    def report(self) -> dict[str, Any]:
        """What the last discovery found."""
        return self._report

    def run(self, request: DiscoveryRequest) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Look for cameras.

        Returns:
            The report, and the settings of the camera to add, with its password; None if none is
            to be added.

        Raises:
            CameraError: one runs already, the request cannot be done, or it took too long.
        """
        if not self._running.acquire(blocking=False):
            raise CameraError("a discovery runs already; wait for its end", "searching")
        try:
            started_at = time.monotonic()
            answer = self._answer(request)
            camera = answer.pop("camera", None)
            self._report = answer | {
                "finished_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started_at, 2),
            }
            return self._report, camera
        finally:
            self._running.release()

    def _answer(self, request: DiscoveryRequest) -> dict[str, Any]:
        password = request.password.get_secret_value() if request.password else ""
        try:
            ended = subprocess.run(
                [*self._command, *_options(request)],
                input=f"{password}\n".encode(),
                capture_output=True,
                timeout=_MAX_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CameraError(
                f"the discovery took longer than {_MAX_SECONDS:g} s; name fewer addresses",
                "invalid",
            ) from None
        if ended.returncode != 0:
            lines = ended.stderr.decode(errors="replace").splitlines()
            reasons = [line for line in lines if line.startswith("error: ")]
            if not reasons:
                _log.warning(
                    "the discovery failed: %s", readable(lines[-1] if lines else "no reason")
                )
            reason = reasons[-1].removeprefix("error: ") if reasons else "it failed; see the log"
            raise CameraError(reason, "invalid")
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer


def _options(request: DiscoveryRequest) -> list[str]:
    """Return the options of the command; a value is part of its option, whatever it begins with."""
    options = ["--json", f"--timeout={request.timeout_seconds}"]
    options.append(f"--device-timeout={request.device_timeout_seconds}")
    options += [f"--interface={each}" for each in request.interfaces]
    options += [f"--address={each}" for each in request.addresses]
    if request.username:
        options += [f"--username={request.username}", "--password-file=-"]
    if request.add is not None:
        given = request.add.model_dump(exclude_none=True)
        options += ["--add=-", *(f"--{name}={value}" for name, value in given.items())]
    return options
