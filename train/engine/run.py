"""One training run: trains each epoch, validates, and saves the state for `--resume`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.progress import Progress

from configs import naming_errors
from model.checkpoints.weights import save_model
from model.network import ActionNetwork
from train.config import TrainConfig
from train.data.batch_maker import Batch
from train.data.clip_plan import PlannedClip, TrainingClipPlan
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.quarantine import Quarantine
from train.data.readers import ClipReader
from train.distributed import Ranks
from train.engine.checkpoint import load_state, save_state, spec_of
from train.engine.regularise import start_training_mode
from train.engine.run_log import TensorBoardLog, epoch_line, keep_lines
from train.engine.run_state import RunState
from train.engine.step import Stepper, learning_rate_at
from train.engine.step_records import Step, StepRecords
from train.engine.step_sums import PendingSums, StepTimer
from train.engine.validation import temperature_or_1, validate
from train.engine.weight_average import WeightAverage
from train.evaluation.clip_accuracy import Predictions
from train.extra import is_installed

__all__ = ["StoppedError", "TrainingRun"]

_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised when a run was asked to stop, after its state has been saved."""


class TrainingRun:
    """A training run that is ready to start; `train.engine.run_setup` creates it.

    Args:
        config: the whole configuration.
        network: the network that is trained.
        stepper: performs one step of gradient descent on the network.
        ranks: the processes that train together; the first one writes files.
        clip_plan: the clips of each epoch.
        validation: the validation videos.
        reader: the reader that decodes the clips.
        quarantine: records the videos that become unreadable during the run.
        device, dtype: device and number format of the network's computations.
        stop: event; when it is set, the run stops after the current step.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        network: ActionNetwork,
        stepper: Stepper,
        ranks: Ranks,
        clip_plan: TrainingClipPlan,
        validation: Sequence[ManifestEntry],
        reader: ClipReader,
        quarantine: Quarantine,
        device: torch.device,
        dtype: torch.dtype,
        stop: threading.Event,
    ) -> None:
        self.state = RunState()
        self._config = config
        self._network = network
        self._stepper = stepper
        self._ranks = ranks
        self._clip_plan = clip_plan
        self._validation = validation
        self._reader = reader
        self._quarantine = quarantine
        self._device = device
        self._dtype = dtype
        self._stop = stop
        self._steps = max(1, len(clip_plan) // config.optimiser.batch)
        self._saved_at = time.monotonic()
        self._tensorboard = TensorBoardLog(config.out, None)
        self._average = WeightAverage(network, config.regularisation.average)

    def resume(self) -> None:
        """Restore the saved state: weights, optimiser, position, sums of the current epoch.

        Raises:
            CheckpointError: the saved state is missing or damaged, or belongs to another network.
        """
        path = self._config.out / "last.safetensors"
        average = self._average.network
        facts = load_state(path, self._network, self._stepper.optimiser, average=average)
        self.state = RunState.from_facts(facts, name=str(path))
        _log.info("resumed at epoch %d, step %d", self.state.epoch + 1, self.state.step + 1)

    def open_logs(self) -> None:
        """Open the logs; remove lines about epochs and steps that this run will train again."""
        if not self._ranks.is_first:
            return
        out = self._config.out
        done = (self.state.epoch, self.state.step)
        if self._config.tensorboard and is_installed("tensorboard", use="files for TensorBoard"):
            self._tensorboard = TensorBoardLog(out, self._global_step() + 1)
        keep_lines(out / "metrics.jsonl", lambda line: line["epoch"] <= done[0])
        keep_lines(out / "steps.jsonl", lambda line: (line["epoch"] - 1, line["step"]) <= done)

    def train_epoch(self, progress: Progress) -> dict[str, float]:
        """Train the remaining steps of the current epoch.

        Returns:
            Loss, accuracy, clips per second and the fraction of the time spent waiting for data.

        Raises:
            StoppedError: the run was asked to stop; its state has been saved.
            TrainingError: the loss is not finite.
        """
        start_training_mode(self._network, self._config)
        title = f"epoch {self.state.epoch + 1}/{self._config.optimiser.epochs}"
        task = progress.add_task(title, total=self._steps, completed=self.state.step, facts="")
        feed = self._feed(self._clips_left())
        with contextlib.closing(feed), self._open_step_log() as log:
            records = StepRecords(self.state.meter, log, self._tensorboard)
            timer = StepTimer(self._device)
            while self.state.step < self._steps:
                asked_to_stop = self._train_step(feed, records, timer)
                progress.update(task, advance=1, facts=self.state.meter.line())
                seconds = time.monotonic() - self._saved_at
                if asked_to_stop or seconds >= 60 * self._config.checkpoint_minutes:
                    records.finish()
                    self._save()
                    records.restart_clock()
                if asked_to_stop:
                    raise StoppedError(
                        f"stopped in epoch {self.state.epoch + 1} after step {self.state.step} of"
                        f" {self._steps}; `--resume` goes on there"
                    )
            records.finish()
        return self.state.meter.facts()

    def validate(self) -> Predictions:
        """Return the predictions for all validation videos."""
        return validate(
            self._average.network,
            self._validation,
            self._config,
            reader=self._reader,
            dtype=self._dtype,
            ranks=self._ranks,
        )

    def finish_epoch(self, facts: dict[str, float], predictions: Predictions) -> None:
        """Write the metrics of the epoch to the logs, and save the weights and the state."""
        top1 = predictions.top1()
        self.state.next_epoch()
        if not self._ranks.is_first:
            return
        epoch = self.state.epoch
        temperature = temperature_or_1(predictions)
        line: dict[str, Any] = {"epoch": epoch, **facts, "temperature": temperature}
        line["validation"] = predictions.summary()
        path = self._config.out / "metrics.jsonl"
        with naming_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        _log.info(epoch_line(epoch, self._config.optimiser.epochs, facts, line["validation"]))
        self._tensorboard.add(
            self._global_step(),
            **{f"epoch__{name}": value for name, value in facts.items()},
            validation__top1=top1,
            validation__top5=predictions.top5(),
        )
        names = ["model"]
        if top1 > self.state.best_top1:
            self.state.best_top1 = top1
            names.append("best")
        if self._config.keep_every and epoch % self._config.keep_every == 0:
            names.append(f"epoch-{epoch:04d}")
        for name in names:
            self._save_weights(name, temperature)
        self._save()

    def first_step(self) -> dict[str, Any]:
        """Train one step; return its loss and time, and the size of the whole run."""
        clips = self._clip_plan.epoch(0)
        batch = next(self._feed(clips[: self._config.optimiser.batch]))
        started = time.perf_counter()
        start_training_mode(self._network, self._config)
        rate = learning_rate_at(0.0, self._config.optimiser)
        result_2 = self._stepper(batch.clips_BTHWC, batch.labels_B, rate=rate, position=(0, 0))
        loss = float(result_2[0])
        return {
            "training_videos": len(clips),
            "validation_videos": len(self._validation),
            "steps_per_epoch": self._steps,
            "parameters": sum(weights.numel() for weights in self._network.parameters()),
            "clips": tuple(batch.clips_BTHWC.shape),
            "first_loss": round(loss, 4),
            "step_seconds": round(time.perf_counter() - started, 3),
            "device": str(self._device),
            "dtype": str(self._dtype).removeprefix("torch."),
        }

    def close(self) -> None:
        """Stop the reader's threads and processes, and close the TensorBoard log."""
        self._reader.close()
        self._tensorboard.close()

    def _train_step(self, feed: Iterator[Batch], records: StepRecords, timer: StepTimer) -> bool:
        """Train one step; return whether any rank was asked to stop.

        With several ranks, they all learn it one step later, when the sums of the step are fetched.
        """
        asked_at = time.perf_counter()
        batch = next(feed)
        times = timer.start(time.perf_counter() - asked_at)
        position = (self.state.epoch, self.state.step)
        rate = learning_rate_at(position[0] + position[1] / self._steps, self._config.optimiser)
        result_2 = self._stepper(batch.clips_BTHWC, batch.labels_B, rate=rate, position=position)
        asked_to_stop = self._stop.is_set()
        sums = PendingSums(
            result_2,
            clips=len(batch.labels_B),
            asked_to_stop=asked_to_stop,
            ranks=self._ranks,
        )
        self.state.step += 1
        self._average.update(self._network, step=self._global_step())
        timer.end()
        step = Step(position[0] + 1, self.state.step, self._global_step(), rate, times, sums)
        was_asked_to_stop = records.add(step)
        return was_asked_to_stop or (asked_to_stop and self._ranks.size == 1)

    def _global_step(self) -> int:
        """Return the number of steps trained since the start of the run, over all epochs."""
        return self.state.epoch * self._steps + self.state.step

    def _clips_left(self) -> list[PlannedClip]:
        """Return this rank's clips for the remaining steps of the current epoch."""
        size = self._config.optimiser.batch
        planned = self._clip_plan.epoch(self.state.epoch)
        left = range(self.state.step, self._steps)
        steps = [planned[step * size : (step + 1) * size] for step in left]
        return [clip for step in steps for clip in self._clips_of_rank(step)]

    def _clips_of_rank(self, batch: Sequence[PlannedClip]) -> list[PlannedClip]:
        """Return this rank's clips from every part of a batch.

        A batch is computed in `accumulate` parts. Each part is split over the ranks, so batch norm
        sees the same clips together as in a single process.
        """
        size = -(-len(batch) // self._config.optimiser.accumulate)
        parts = [batch[first : first + size] for first in range(0, len(batch), size)]
        return [clip for part in parts for clip in self._ranks.part_of(part)]

    def _feed(self, planned: Sequence[PlannedClip]) -> Generator[Batch, None, None]:
        return batches(
            planned,
            self._config.optimiser.batch // self._ranks.size,
            reader=self._reader,
            preprocess=self._config.preprocess,
            device=self._device,
            quarantine=self._quarantine,
        )

    @contextlib.contextmanager
    def _open_step_log(self) -> Iterator[TextIO]:
        path = self._config.out / "steps.jsonl" if self._ranks.is_first else Path(os.devnull)
        with naming_errors(path), path.open("a", encoding="utf-8") as file:
            yield file

    def _save(self) -> None:
        """Save the whole state for `--resume`; only the first rank writes the file."""
        self._saved_at = time.monotonic()
        if self._ranks.is_first:
            path = self._config.out / "last.safetensors"
            average, optimiser = self._average.network, self._stepper.optimiser
            save_state(path, self._network, optimiser, self.state.facts(), average=average)

    def _save_weights(self, name: str, temperature: float) -> None:
        config = self._config
        path = config.out / f"{name}.safetensors"
        dtype = getattr(torch, config.weights_format)
        spec = spec_of(config, temperature)
        save_model(self._average.network, path, spec=spec, dtype=dtype)
