"""Does the runs of a plan one after another, and keeps the result of each in its own folder.

    OUT/runs/<name>/result.json    figures, fingerprint, seconds and environment of a finished run
    OUT/runs/<name>/state.json     fingerprint, seconds and failure of an unfinished run
    OUT/runs/<name>/training/      the training run; its state while unfinished, its weights then
    OUT/sets/                      lists and clips that were made of the sets

A finished run is not repeated unless its fingerprint changed; a stopped run is continued. Results
are recorded in one file, too, and count when the folders are gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Literal

from configs import CidcError, DataError, is_file
from train.config import TrainConfig
from train.engine.run_log import environment, write_json
from train.engine.trainer import StoppedError, train
from train.evaluation.clip_accuracy import parse_views
from train.evaluation.weights_accuracy import evaluate_weights
from train.results.config import ResultsPlan, TrainedSet
from train.results.events import event_figures
from train.results.fingerprint import (
    Fingerprint,
    differences,
    event_fingerprint,
    hash_of_weights,
    training_setup,
)
from train.results.lists import SetLists, set_lists
from train.results.plan import PlannedRun, TrainingRun, missing_source, start_of
from train.results.records import Records

__all__ = ["ResultRuns", "RunStatus"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        state: `done`; `changed`, if its result belongs to another recipe; `failed`; `started`;
            `missing`; `left out`, if its set is not there.
        reason: why it failed, what changed, or what is not there.
        result: content of `result.json` of a run that is done; otherwise None.
    """

    state: Literal["done", "changed", "failed", "started", "missing", "left out"]
    reason: str = ""
    result: dict[str, Any] | None = None


class ResultRuns:
    """The runs of a plan, with their folders below `out`.

    Args:
        plan: the plan.
        out: folder of all runs.
        records: results of runs whose folders may be gone; those of new runs are added.
        quiet: whether to show no progress bars.
    """

    def __init__(
        self, plan: ResultsPlan, out: Path, records: Records, *, quiet: bool = False
    ) -> None:
        self._plan = plan
        self._out = out
        self._records = records
        self._quiet = quiet
        self._lists: dict[tuple[str, int], SetLists | None] = {}

    def status(self, run: PlannedRun) -> RunStatus:
        """Return where a run stands, without starting it."""
        missing = missing_source(run.set, self._plan.data_root)
        if missing is not None:
            return RunStatus("left out", f"there is no {missing.name} where the plan looks for it")
        folder = self._folder(run)
        state = _read(folder / "state.json")
        stored = self._stored(run.name)
        if state is None and stored is None:
            return RunStatus("missing")
        try:
            now = self._fingerprint(run)
        except CidcError as error:
            return RunStatus("failed", str(error))
        if stored is not None and now is not None:
            changed = differences(stored["fingerprint"], now)
            if not changed:
                return RunStatus("done", result=stored)
            if state is None:
                return RunStatus("changed", ", ".join(changed))
        if state is not None and state["failure"]:
            return RunStatus("failed", state["failure"])
        return RunStatus("started" if state is not None else "missing")

    def finish(self, run: PlannedRun, stop: threading.Event) -> RunStatus:
        """Do a run, or what is left of it; a failure is recorded and does not raise.

        Raises:
            StoppedError: `stop` was set; the run is saved, and the next call continues it.
        """
        if stop.is_set():
            raise StoppedError(f"stopped before {run.name}; the next call goes on there")
        status = self.status(run)
        if status.result is not None:
            self._records.add(run.name, status.result)
        if status.state in ("done", "left out"):
            return status
        return self._do(run, stop)

    def _do(self, run: PlannedRun, stop: threading.Event) -> RunStatus:
        folder = self._folder(run)
        before = _read(folder / "state.json") or {}
        seconds = 0.0
        fingerprint: Fingerprint = {}
        started = time.monotonic()
        failure = ""
        try:
            config, fingerprint = self._setup(run, stop)
            same = bool(before) and not differences(before["fingerprint"], fingerprint)
            seconds = before["seconds"] if same else 0.0
            _write_state(folder, fingerprint, seconds)
            figures = self._figures(run, config, resume=same, stop=stop)
        except (StoppedError, KeyboardInterrupt):
            raise
        except Exception as error:
            failure = str(error) if isinstance(error, CidcError) else repr(error)
            _log.error("%s failed: %s", run.name, failure)
            return RunStatus("failed", failure)
        finally:
            seconds += time.monotonic() - started
            _write_state(folder, fingerprint, seconds, failure)
        result = {
            "figures": figures,
            "fingerprint": fingerprint,
            "seconds": round(seconds, 1),
            "environment": _shared_environment(),
        }
        if config is not None:
            result["weights"] = hash_of_weights(config.out / "model.safetensors")
        write_json(folder / "result.json", result)
        self._records.add(run.name, result)
        (folder / "state.json").unlink()
        for name in ("last", "best"):
            (folder / "training" / f"{name}.safetensors").unlink(missing_ok=True)
        return RunStatus("done", result=result)

    def _folder(self, run: PlannedRun) -> Path:
        return self._out / "runs" / run.name

    def _stored(self, name: str) -> dict[str, Any] | None:
        return _read(self._out / "runs" / name / "result.json") or self._records.get(name)

    def _fingerprint(self, run: PlannedRun) -> Fingerprint | None:
        """Return a run's fingerprint; None if its clips must be made first."""
        if isinstance(run, TrainingRun):
            lists = self._lists_of(run.set, run.fold, make=False)
            if lists is None:
                return None
            start = None if run.start_name is None else self._stored(run.start_name)
            start_hash = None if start is None else start.get("weights")
            return training_setup(run, self._plan, lists, self._out, start_hash)[1]
        return event_fingerprint(run)

    def _setup(
        self, run: PlannedRun, stop: threading.Event
    ) -> tuple[TrainConfig | None, Fingerprint]:
        if not isinstance(run, TrainingRun):
            return None, event_fingerprint(run)
        self._find_start(run, stop)
        lists = self._lists_of(run.set, run.fold, make=True)
        assert lists is not None
        return training_setup(run, self._plan, lists, self._out)

    def _find_start(self, run: TrainingRun, stop: threading.Event) -> None:
        """Make sure of the weights that a run starts from; train them again if only they are gone.

        Raises:
            DataError: the run that makes them is not finished.
        """
        start = start_of(run, self._plan)
        if start is None:
            return
        if self.status(start).state == "done" and not is_file(
            self._folder(start) / "training/model.safetensors"
        ):
            _log.info("%s is done again: its weights are not here any more", start.name)
            self._do(start, stop)
        if not is_file(self._folder(start) / "result.json"):
            raise DataError(
                f"{run.name} starts from {start.name}, which is not finished; do that run first"
            )

    def _lists_of(self, found: TrainedSet, fold: int, *, make: bool) -> SetLists | None:
        key = (found.id, fold)
        if self._lists.get(key) is None:
            self._lists[key] = set_lists(
                found, fold, data_root=self._plan.data_root, out=self._out, make=make
            )
        return self._lists[key]

    def _figures(
        self, run: PlannedRun, config: TrainConfig | None, *, resume: bool, stop: threading.Event
    ) -> dict[str, Any]:
        """Do the work of a run and return what it measured."""
        if not isinstance(run, TrainingRun):
            return event_figures(run, quiet=self._quiet)
        assert config is not None
        saved = config.out / "last.safetensors"
        resume = resume and config.features is None and is_file(saved)
        if not resume:
            shutil.rmtree(config.out, ignore_errors=True)
        train(config, resume=resume, quiet=self._quiet, stop=stop)
        weights = config.out / "model.safetensors"
        views = parse_views(self._plan.views)
        predictions, _ = evaluate_weights(weights, config.data.validation, views, config=config)
        return predictions.summary()


def _shared_environment() -> dict[str, Any]:
    """Return the environment without the command line, which has paths of this machine."""
    return {name: value for name, value in environment().items() if name != "command"}


def _write_state(folder: Path, fingerprint: Fingerprint, seconds: float, failure: str = "") -> None:
    facts = {"fingerprint": fingerprint, "seconds": round(seconds, 1), "failure": failure}
    write_json(folder / "state.json", facts)


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None
