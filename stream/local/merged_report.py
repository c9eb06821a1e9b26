"""The answers of the workers to `/health`, as one report."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from stream.local.running_worker import RunningWorker

__all__ = ["merged_report", "problem_of"]


def problem_of(running: RunningWorker) -> str | None:
    """Return why a worker does not analyse video; None if it does."""
    if running.problem is not None:
        return running.problem
    if running.worker.config.http.enabled and running.health is None:
        return "does not answer"
    checks = (running.health or {}).get("checks", {})
    problems = [problem for problem in checks.values() if problem is not None]
    return problems[0] if problems else None


def merged_report(
    checks: Mapping[str, str | None],
    reports: Mapping[str, Mapping[str, Any] | None],
    problems: Mapping[str, str | None],
) -> dict[str, Any]:
    """Merge the reports of workers; the schema `HealthReport` describes the result.

    Args:
        checks: the problem of each probe of the whole; None if it passes.
        reports: the last report of each worker, by its name; None if it does not answer.
        problems: the problem of each worker.
    """
    answers = [report for report in reports.values() if report is not None]
    cameras: collections.Counter[str] = collections.Counter()
    for answer in answers:
        cameras.update(answer["cameras"])
    busiest = max(answers, key=lambda answer: answer["load"] or 0.0, default=None)
    found = {
        name: [each for answer in answers for each in answer[name]]
        for name in ("problems", "not_taken")
    }
    sinks = _merged_sinks(answers)
    is_failing = any(problem is not None for problem in checks.values())
    is_degraded = any(found.values()) or any(problems.values())
    is_degraded = is_degraded or any(sink["problem"] is not None for sink in sinks)
    return {
        "status": "failing" if is_failing else "degraded" if is_degraded else "ok",
        "checks": dict(checks),
        "cameras": dict(cameras),
        "load": None if busiest is None else busiest["load"],
        "load_parts": {} if busiest is None else busiest["load_parts"],
        "workers": dict(problems),
        "sinks": sinks,
        **found,
    }


def _merged_sinks(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Merge what the workers say of each sink: one problem, and what waits in all outboxes."""
    merged: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for sink in answer["sinks"]:
            known = merged.setdefault(sink["sink"], {**sink, "problem": None, "waiting": 0})
            known["problem"] = known["problem"] or sink["problem"]
            known["waiting"] += sink["waiting"]
    return list(merged.values())
