"""Trains networks on many sets with several seeds, and writes one page of results."""

from train.results.config import ResultsPlan
from train.results.page import results_page
from train.results.plan import chosen, planned_runs
from train.results.records import Records
from train.results.remaining import remaining_seconds
from train.results.runs import ResultRuns, RunStatus

__all__ = [
    "Records",
    "ResultRuns",
    "ResultsPlan",
    "RunStatus",
    "chosen",
    "planned_runs",
    "remaining_seconds",
    "results_page",
]
