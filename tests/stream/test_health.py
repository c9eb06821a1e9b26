"""What the health checks say of stages that stand still or have ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stream.health import Health
from stream.stage import Stage


class Waiting(Stage):
    """A stage that does nothing until it is told to end, and whose silence is set by the test."""

    silence = 0.0

    def run(self) -> None:
        """Wait for the end."""
        self.stopping.wait()

    @property
    def silent_seconds(self) -> float:
        """What the test says."""
        return self.silence


@pytest.fixture
def stages() -> Iterator[dict[str, Waiting]]:
    """Three stages that run."""
    found = {name: Waiting(name) for name in ("analysis", "inference", "writer")}
    for stage in found.values():
        stage.start()
    yield found
    for stage in found.values():
        stage.stop()
        assert stage.join(5)


def outcome(health: Health) -> tuple[bool, ...]:
    """Whether started, ready, alive."""
    return tuple(check() is None for check in health.checks.values())


def test_health_reports_standstills_and_asks_for_a_restart_only_where_it_helps(
    stages: dict[str, Waiting],
) -> None:
    health = Health()
    recovering = threading.Event()
    watched = [stages["analysis"], stages["inference"]]
    health.watch(watched, stages["writer"], recovering.is_set)
    assert outcome(health) == (False, False, True)
    health.started.set()
    for name, expected in (
        ("analysis", (True, False, False)),
        ("inference", (True, False, False)),
        ("writer", (True, False, True)),  # a restart would lose what it holds
    ):
        assert outcome(health) == (True, True, True)
        stages[name].silence = 61.0
        assert outcome(health) == expected
        stages[name].silence = 0.0
    stages["analysis"].silence = 61.0
    assert health.not_alive() == "the thread analysis has not moved for 61 s"
    stages["analysis"].silence = 0.0
    stages["writer"].silence = 61.0
    recovering.set()
    assert outcome(health) == (True, True, True)
    stages["writer"].stop()
    assert stages["writer"].join(5)
    assert health.not_alive() == "the thread writer has ended"
    health.draining.set()
    assert outcome(health) == (True, False, True)


def test_a_stage_keeps_its_failure_and_raises_nothing_elsewhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Stage):
        """Fails at once."""

        def run(self) -> None:
            """Fail."""
            raise RuntimeError("no memory")

    stage = Failing("broken")
    assert stage.join(0)
    stage.start()
    assert stage.join(5)
    assert isinstance(stage.failure, RuntimeError)
    assert "stage broken failed" in caplog.text
    with pytest.raises(RuntimeError, match="started before"):
        stage.start()
