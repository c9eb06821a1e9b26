"""Records the results of an epoch's steps: sums of the epoch, step log, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from typing import Any, NamedTuple, TextIO

from configs import TrainingError
from train.engine.run_log import TensorBoardLog
from train.engine.run_state import EpochMeter
from train.engine.step_sums import PendingSums, StepTime

__all__ = ["Step", "StepRecords"]


class Step(NamedTuple):
    """A step that was queued, with its place in the run: epoch and step from 1, both."""

    epoch: int
    step: int
    global_step: int
    rate: float
    time: StepTime
    sums: PendingSums


class StepRecords:
    """Records each step when the next one was queued, so that the device always has work.

    `finish` records the last step; call it before the state of the run is used or saved.

    Args:
        meter: sums of the epoch.
        log: the step log, JSON Lines.
        tensorboard: scalars of each step.
    """

    def __init__(self, meter: EpochMeter, log: TextIO, tensorboard: TensorBoardLog) -> None:
        self._meter = meter
        self._log = log
        self._tensorboard = tensorboard
        self._pending: Step | None = None
        self._asked_to_stop = False
        self.restart_clock()

    def restart_clock(self) -> None:
        """Do not count the time since the last record as time of a step."""
        self._recorded_at = time.perf_counter()

    def add(self, step: Step) -> bool:
        """Keep a step, and record the one before it.

        Returns:
            Whether the run was asked to stop in an earlier step. All ranks learn it at the same
            step, also those that recorded that step already, in `finish`.

        Raises:
            TrainingError: the loss of the step before is not finite.
        """
        self._record_pending()
        self._pending = step
        return self._asked_to_stop

    def finish(self) -> None:
        """Wait for the last step, record it, and write the step log to its file.

        Raises:
            TrainingError: its loss is not finite.
        """
        self._record_pending()
        self._log.flush()

    def _record_pending(self) -> None:
        step, self._pending = self._pending, None
        if step is not None:
            self._record(step)

    def _record(self, step: Step) -> None:
        sums = step.sums.fetch()
        if not math.isfinite(sums.loss):
            raise TrainingError(
                f"the loss became {sums.loss}; lower optimiser.learning_rate or set"
                " optimiser.clip_gradient"
            )
        before = self._recorded_at
        self.restart_clock()
        self._meter.add(
            loss=sums.loss,
            correct=sums.correct,
            clips=sums.clips,
            waited=step.time.waited(),
            spent=self._recorded_at - before,
        )
        line: dict[str, Any] = {
            "epoch": step.epoch,
            "step": step.step,
            "loss": sums.loss,
            "learning_rate": step.rate,
        }
        self._log.write(json.dumps(line) + "\n")
        self._tensorboard.add(
            step.global_step, train__loss=sums.loss, train__learning_rate=step.rate
        )
        self._asked_to_stop |= sums.asked_to_stop
