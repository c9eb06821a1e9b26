"""The reports of several workers as one."""

from __future__ import annotations

from typing import Any

from stream.local.merged_report import merged_report


def answer(*sinks: dict[str, Any]) -> dict[str, Any]:
    return {
        "checks": {},
        "cameras": {},
        "problems": [],
        "not_taken": [],
        "load": None,
        "load_parts": {},
        "sinks": list(sinks),
    }


def sink(name: str, problem: str | None, waiting: int) -> dict[str, Any]:
    return {"sink": name, "address": "a", "problem": problem, "waiting": waiting}


def test_a_sink_that_one_worker_does_not_reach_is_a_problem_of_the_whole() -> None:
    workers = {
        "0": answer(sink("hook", None, 1), sink("kafka", None, 0)),
        "1": answer(sink("hook", "timeout", 4), sink("kafka", None, 0)),
        "2": None,
    }
    report = merged_report({"live": None}, workers, {"0": None, "1": None})
    assert report["sinks"] == [sink("hook", "timeout", 5), sink("kafka", None, 0)]
    assert report["status"] == "degraded"
    workers["1"] = answer(sink("hook", None, 0))
    assert merged_report({"live": None}, workers, {})["status"] == "ok"
