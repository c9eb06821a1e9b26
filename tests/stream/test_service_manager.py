"""What systemd is told of a run, read from the socket that it would listen on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.service_manager import ServiceManager
from tests import ROOT
from tests.support.command_line import command, overrides
from tests.support.waiting import until

WATCHDOG_SECONDS = 0.2


class Listener:
    """The socket of a service manager, and the notices that arrived."""

    def __init__(self, address: str) -> None:
        self.notices: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.05)

    def read(self, seconds: float = 0.0) -> list[str]:
        """Return all notices so far, after waiting this long for more."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(TimeoutError):
                self.notices += self._socket.recv(4096).decode().splitlines()
                continue
            if time.monotonic() >= deadline:
                return self.notices

    def has(self, notice: str) -> bool:
        """Whether a notice has arrived."""
        return notice in self.read()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a socket: a path, or an abstract name."""
    if request.param == "file":
        return str(tmp_path / "notify")
    return f"@cidc-test-{os.getpid()}-{time.monotonic_ns()}"


@contextlib.contextmanager
def listening(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    try:
        yield listener
    finally:
        listener.close()


class Run:
    """The checks of a run, as a test sets them."""

    def __init__(self) -> None:
        self.startup: str | None = "still loading"
        self.live: str | None = None
        self.draining = threading.Event()
        self.checks: dict[str, Callable[[], str | None]] = {
            "startup": lambda: self.startup,
            "live": lambda: self.live,
        }

    def manager(self, address: str, *, max_silence_seconds: float = 60.0) -> ServiceManager:
        """A manager that is watched by systemd."""
        environment = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6)),
            "WATCHDOG_PID": str(os.getpid()),
        }
        return ServiceManager(
            self.checks,
            self.draining,
            environment=environment,
            max_silence_seconds=max_silence_seconds,
        )


def test_readiness_signs_of_life_and_the_end(address: str) -> None:
    run = Run()
    with listening(address) as listener:
        with run.manager(address):
            loading = "STATUS=loading and warming up the network"
            assert until(lambda: listener.has(loading), seconds=5)
            listener.read(2 * WATCHDOG_SECONDS)
            # Before it is ready there is no sign of life: systemd waits for TimeoutStartSec.
            assert not {"READY=1", "WATCHDOG=1"} & set(listener.notices)
            run.startup = None
            assert until(lambda: listener.has("READY=1"), seconds=5)
            before = listener.read().count("WATCHDOG=1")
            time.sleep(3 * WATCHDOG_SECONDS)
            # Four in each interval, so that some may come late.
            assert listener.read().count("WATCHDOG=1") - before >= 4
            run.draining.set()
            assert until(lambda: listener.has("STOPPING=1"), seconds=5)
            ended_at = len(listener.read(2 * WATCHDOG_SECONDS))
        assert listener.read(0.1)[ended_at:] == []
    assert listener.notices.count("READY=1") == listener.notices.count("STOPPING=1") == 1


def test_there_is_no_sign_of_life_while_the_run_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    run = Run()
    run.startup = None
    with listening(address) as listener, run.manager(address):
        assert until(lambda: listener.has("WATCHDOG=1"), seconds=5)
        run.live = "the thread inference has not moved for 61 s"
        assert until(
            lambda: any("not alive: the thread inf" in each for each in listener.read()), 5
        )
        count = listener.read().count("WATCHDOG=1")
        assert listener.read(3 * WATCHDOG_SECONDS).count("WATCHDOG=1") == count
        run.live = None
        assert until(lambda: listener.read().count("WATCHDOG=1") > count, seconds=5)
        assert "STATUS=analysing cameras" in listener.notices
    [message] = [record.message for record in caplog.records]
    assert message.startswith("not alive: the thread inference has not moved for 61 s; systemd")
    assert "thread MainThread:" in message
    assert "in test_there_is_no_sign_of_life_while_the_run_hangs" in message


def test_a_main_thread_that_stands_still_is_not_alive(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    run = Run()
    run.startup = None
    with (
        listening(address) as listener,
        run.manager(address, max_silence_seconds=0.5) as manager,
    ):
        manager.beat()
        assert until(lambda: any("the main thread has" in each for each in listener.read()), 5)
        count = listener.read().count("WATCHDOG=1")
        assert listener.read(2 * WATCHDOG_SECONDS).count("WATCHDOG=1") == count
        manager.beat()
        assert until(lambda: listener.read().count("WATCHDOG=1") > count, seconds=5)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "relative"},
    ],
)
def test_nothing_happens_without_a_service_manager(environment: dict[str, str]) -> None:
    run = Run()
    threads = threading.active_count()
    with ServiceManager(
        run.checks, run.draining, environment=environment, max_silence_seconds=60
    ) as manager:
        manager.beat()
        assert threading.active_count() == threads


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_PID": "1"}],
)
def test_without_a_watchdog_only_the_state_is_told(
    tmp_path: Path, watchdog: dict[str, str]
) -> None:
    """Also if the watchdog is for another process, such as a shell around this one."""
    address = str(tmp_path / "notify")
    run = Run()
    run.startup = None
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"} | watchdog
    if not watchdog:
        del environment["WATCHDOG_USEC"]
    with listening(address) as listener:
        with ServiceManager(
            run.checks, run.draining, environment=environment, max_silence_seconds=60
        ):
            assert until(lambda: listener.has("READY=1"), seconds=5)
            time.sleep(0.2)
        assert {"READY=1", "STOPPING=1"} <= set(listener.read())
        # Once at the start it does no harm.
        assert listener.notices.count("WATCHDOG=1") <= 1


def test_a_service_manager_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    run = Run()
    run.startup = None
    started_at = time.monotonic()
    with run.manager(str(tmp_path / "nobody listens")):
        time.sleep(0.2)
    assert time.monotonic() - started_at < 5


@pytest.mark.slow
def test_a_run_tells_when_it_is_ready_and_when_it_stops(config: Path, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    options = overrides("cameras.0.loop=true", "cameras.0.pace=realtime", "http.enabled=false")
    watchdog = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    with listening(address) as listener:
        process = subprocess.Popen(
            command("run", "--config", config, *options),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | watchdog,
        )
        try:
            assert until(lambda: listener.has("WATCHDOG=1"), seconds=120)
            order = [each for each in listener.notices if not each.startswith("STATUS")]
            assert order[0] == "READY=1"
            process.send_signal(signal.SIGTERM)
            assert until(lambda: listener.has("STOPPING=1"), seconds=30)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, errors


def test_a_run_that_is_aborted_shows_where_it_hung(tmp_path: Path) -> None:
    """systemd sends SIGABRT to a service without signs of life."""
    program = """
import threading
from stream.service_manager import ServiceManager
def hangs_here():
    print("hanging", flush=True)
    threading.Event().wait()
checks = {"startup": lambda: None, "live": lambda: "hangs"}
with ServiceManager(checks, threading.Event(), max_silence_seconds=60):
    hangs_here()
"""
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGABRT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGABRT
    assert "in hangs_here" in errors
