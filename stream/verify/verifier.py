"""The thread that takes second looks: it encodes frames, asks the endpoint and keeps the answers.

Whoever makes the events offers actions and collects the answers; neither ever waits.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import time

from torch import Tensor

from model.channel import Channel
from model.media.preprocess import PreprocessConfig
from stream.events.event import ActionEvent
from stream.events.verification import Verification
from stream.stage import Stage
from stream.verify.answer import read_answer
from stream.verify.circuit import Circuit
from stream.verify.config import VerifyConfig
from stream.verify.endpoint import Endpoint, NoAnswerError
from stream.verify.frames import chosen_frames, encode_frames
from stream.verify_metrics import FailureReason, VerifyMetrics

__all__ = ["Verifier"]

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_MINUTE = 60.0
_JOIN_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class _Look:
    """A `started` event with frames of its clip; `owner` comes back with the answer."""

    event: ActionEvent
    owner: object
    frames_CNHW: Tensor
    offered_monotonic: float


class Verifier(Stage):
    """Asks about actions, one at a time, in the order in which they were offered.

    Args:
        config: settings with an endpoint.
        framing: how the frames of clips are normalised.
        api_key: key of the endpoint; None: no key.

    Raises:
        ConfigError: the file with certificates cannot be used.
    """

    def __init__(
        self,
        config: VerifyConfig,
        framing: PreprocessConfig,
        metrics: VerifyMetrics,
        api_key: str | None = None,
    ) -> None:
        super().__init__("verify")
        self._config = config
        self._framing = framing
        self._metrics = metrics
        self._endpoint = Endpoint(config, api_key)
        self._waiting: Channel[_Look] = Channel(config.max_waiting)
        self._answers: collections.deque[tuple[ActionEvent, object, Verification]] = (
            collections.deque()
        )
        self._taken: collections.deque[float] = collections.deque()
        self._circuit = Circuit()
        self._is_asking = False
        self._last_reason: str | None = None
        metrics.waiting.set_function(lambda: len(self._waiting) + self._is_asking)

    def offer(self, event: ActionEvent, clip_CTHW: Tensor, owner: object) -> None:
        """Queue a second look at an action that has just started; return at once.

        Looks that cannot be taken are dropped and counted. One thread calls this.

        Args:
            clip_CTHW: the clip, normalised, as the network received it.
            owner: comes back with the answer.
        """
        if not self._is_wanted(event):
            return
        if (reason := self._obstacle()) is not None:
            self.count_failure(reason)
            return
        now = time.monotonic()
        frames_CNHW = chosen_frames(clip_CTHW, self._config.frames)
        look = _Look(event, owner, frames_CNHW, now)
        if self._waiting.put(look, timeout_seconds=0):
            self._taken.append(now)
        else:
            self.count_failure("shutdown" if self._waiting.is_closed else "queue_full")

    def answers(self) -> list[tuple[ActionEvent, object, Verification]]:
        """Return the answers that came since the last call, with event and owner; never wait."""
        found = []
        while self._answers:
            found.append(self._answers.popleft())
        return found

    def count_failure(self, reason: FailureReason) -> None:
        """Count a look that does not become an event."""
        self._metrics.failures.labels(reason).inc()

    def count_answer(self, verification: Verification) -> None:
        """Count a look that became an event."""
        self._metrics.answers.labels(verification.answer).inc()

    def finish(self, timeout_seconds: float) -> None:
        """Take the waiting looks, for at most the timeout; drop and count the others."""
        self._waiting.close()
        if not self.join(timeout_seconds):
            self.stop()
            self.join(_JOIN_SECONDS)
        while self._waiting.take(0) is not None:
            self.count_failure("shutdown")

    def run(self) -> None:
        """Take looks until the queue is closed and empty, or `stop` was called."""
        with asyncio.Runner() as runner:
            while not self.stopping.is_set() and not self._waiting.is_drained:
                self.beat()
                look = self._waiting.take(_TICK_SECONDS)
                if look is not None:
                    self._is_asking = True
                    self._take(runner, look)
                    self._is_asking = False
            runner.run(self._endpoint.aclose())

    def _is_wanted(self, event: ActionEvent) -> bool:
        config = self._config
        return (
            (not config.actions or event.action in config.actions)
            and (not config.cameras or event.camera_id in config.cameras)
            and config.min_confidence <= event.confidence <= config.max_confidence
        )

    def _obstacle(self) -> FailureReason | None:
        if self._waiting.is_closed:
            return "shutdown"
        if self._circuit.is_open:
            return "circuit_open"
        while self._taken and self._taken[0] <= time.monotonic() - _MINUTE:
            self._taken.popleft()
        if len(self._taken) >= self._config.max_per_minute:
            return "max_per_minute"
        return "queue_full" if len(self._waiting) >= self._config.max_waiting else None

    def _take(self, runner: asyncio.Runner, look: _Look) -> None:
        if self._circuit.is_open:
            self.count_failure("circuit_open")
            return
        try:
            text = runner.run(self._ask(look))
        except NoAnswerError as error:
            self._note_failure(error)
        except Exception as error:  # the thread must survive; the next look may succeed
            if self._last_reason != "failed":
                _log.exception("a second look failed")
            self._note_failure(NoAnswerError("failed", type(error).__name__))
        else:
            self._note_answer(look, text)

    async def _ask(self, look: _Look) -> str:
        """Ask within the deadline, which holds for the whole request; stop at once on `stop`."""
        pictures = encode_frames(
            look.frames_CNHW,
            self._framing,
            width=self._config.width,
            quality=self._config.quality,
        )
        question = self._config.question(look.event.action)
        deadline = time.monotonic() + self._config.timeout_seconds
        asking = asyncio.ensure_future(self._endpoint.ask(question, pictures))
        try:
            while not asking.done():
                self.beat()
                left = deadline - time.monotonic()
                if self.stopping.is_set():
                    raise NoAnswerError("shutdown", "was not waited for: the run ends")
                if left <= 0:
                    raise NoAnswerError("timeout", "did not answer in time")
                await asyncio.wait({asking}, timeout=min(left, _TICK_SECONDS))
            return asking.result()
        finally:
            if asking.cancel():
                await asyncio.wait({asking}, timeout=1.0)
                if asking.done() and not asking.cancelled():
                    asking.exception()  # noted, so that asyncio does not log it

    def _note_answer(self, look: _Look, text: str) -> None:
        if self._circuit.succeed():
            _log.warning("%s answers again; second looks go on", self._config.endpoint)
        self._last_reason = None
        answer, reason = read_answer(text)
        assert self._config.model is not None
        seconds = time.monotonic() - look.offered_monotonic
        self._metrics.seconds.observe(seconds)
        verification = Verification(
            answer=answer,
            reason=reason,
            model=self._config.model,
            latency_seconds=round(seconds, 3),
        )
        self._answers.append((look.event, look.owner, verification))

    def _note_failure(self, error: NoAnswerError) -> None:
        self.count_failure(error.reason)
        if error.reason == "shutdown":
            return
        pause = self._circuit.fail(error.retry_after_seconds)
        if error.reason != self._last_reason:
            _log.warning("second looks: %s %s", self._config.endpoint, error)
        elif pause is not None:
            _log.info("second looks: %s %s", self._config.endpoint, error)
        if pause is not None:
            _log.info("no second looks for %g s", pause)
        self._last_reason = error.reason
