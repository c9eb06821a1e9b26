"""Repeats the paper's ablations with the data sets and training budget of this project."""

from train.ablations.config import AblationConfig
from train.ablations.paper_tables import PAPER_TABLES
from train.ablations.report import markdown, result_rows
from train.ablations.runs import RunResult, run_ablations
from train.ablations.variants import variants

__all__ = [
    "PAPER_TABLES",
    "AblationConfig",
    "RunResult",
    "markdown",
    "result_rows",
    "run_ablations",
    "variants",
]
