"""The page of results: its arithmetic, its cells, and that no figure in it is typed."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs import ConfigError, example_path, load_config, parse_config
from model.checkpoints.shipped import find_weights
from tests import ROOT
from train.ablations import PAPER_TABLES
from train.results import (
    ResultsPlan,
    RunStatus,
    planned_runs,
    remaining_seconds,
    results_page,
)
from train.results.config import PaperLink
from train.results.plan import PlannedRun, TrainingRun

PACKAGES = {"torch": "2.0", "av": "1.0"}
MACHINE = {"machine": "x86_64", "cores": 2, "gpu": "none", "python": "3.11", "packages": PACKAGES}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> ResultsPlan:
    """The plan that ships, with two sets; generated scenes are always there."""
    monkeypatch.chdir(ROOT)
    tree = yaml.safe_load(example_path("results.yaml").read_text())
    scenes = next(found for found in tree["sets"] if found["id"] == "scenes")
    scenes |= {"networks": None, "clips_per_class": [5, "all"], "paper_columns": ["HMDB-51"]}
    falls = next(found for found in tree["sets"] if found["id"] == "falls")
    del tree["networks"][-1]
    tree["sets"] = [scenes, falls]
    return parse_config(yaml.safe_dump(tree), ResultsPlan)


def done(top1: float, videos: int = 120, seconds: float = 60.0) -> RunStatus:
    figures = {"top1": top1, "videos": videos}
    result: dict[str, Any] = {"figures": figures, "seconds": seconds, "environment": MACHINE}
    return RunStatus("done", result=result)


def page_of(plan: ResultsPlan, changes: dict[str, RunStatus]) -> str:
    statuses: dict[PlannedRun, RunStatus] = {
        run: changes.get(run.name, RunStatus("missing")) for run in planned_runs(plan)
    }
    return results_page(plan, statuses, command="python -m train results")


def cells(text: str, row: str, number: int) -> list[str]:
    """Return the cells of a row, in the table with this number; the row's name is left out."""
    found = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in found[number].split("|")[2:-1]]


def test_cells_hold_mean_spread_and_what_is_behind_them(plan: ResultsPlan) -> None:
    values = [0.8125, 0.9, 0.7333]
    statuses = {
        f"scenes/fold1/cidc/all/seed{seed}": done(value) for seed, value in enumerate(values)
    }
    statuses |= {"scenes/fold1/cidc/5/seed1": done(0.25)}
    statuses |= {"scenes/fold1/average-pooling/5/seed0": RunStatus("failed", "no video")}
    text = page_of(plan, statuses)
    per_cent = 100 * np.array(values)
    assert cells(text, "CIDC", 1) == [
        "25.0 (1 of 3 runs, 120 clips)",
        f"{per_cent.mean():.1f} ± {per_cent.std(ddof=1):.1f} (3 runs, 120 clips)",
        "74.9",
    ]
    assert cells(text, "average pooling", 1) == ["failed", "not run", "69.1"]
    assert cells(text, "CIDC from scratch", 1) == ["not run", "not run", ""]
    assert "`scenes/fold1/average-pooling/5/seed0` failed: no video" in text
    assert "4 of the results: x86_64, 2 CPU cores, no GPU; Python 3.11, av 1.0, torch 2.0" in text


def test_test_clips_are_counted_once_for_each_fold(plan: ResultsPlan) -> None:
    tree = yaml.safe_load(example_path("results.yaml").read_text())
    tree["sets"] = [found for found in tree["sets"] if found["id"] == "fights"]
    folded = parse_config(yaml.safe_dump(tree | {"seeds": [0, 1]}), ResultsPlan)
    figures = {(1, 0): 0.5, (1, 1): 0.75, (2, 0): 1.0}
    statuses = {
        f"fights/fold{fold}/cidc/10/seed{seed}": done(value, videos=7 + fold)
        for (fold, seed), value in figures.items()
    }
    found = np.array(list(figures.values())) * 100
    cell = cells(page_of(folded, statuses), "CIDC", 1)[1]
    assert cell == f"{found.mean():.1f} ± {found.std(ddof=1):.1f} (3 of 10 runs, 17 clips)"


def test_recordings_have_the_figures_of_events(plan: ResultsPlan) -> None:
    figures = {"true_events": 7, "found": 3, "false": 1, "precision": 0.75, "recall": 0.4286}
    figures |= {"f1": 0.5455, "false_per_camera_hour": None}
    status = RunStatus("done", result={"figures": figures, "seconds": 1, "environment": MACHINE})
    text = page_of(plan, {"falls/scenes-cidc": status})
    assert cells(text, "weights that ship", 0) == ["7", "3", "1", "0.75", "0.43", "0.55", ""]


def test_a_page_without_results_has_no_figure_but_the_papers(plan: ResultsPlan) -> None:
    text = page_of(plan, {})
    tables = text[text.index("## Generated scenes") :]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    measured = [cell for row in rows for cell in row.split("|")[2:-1] if re.search(r"\d\.\d", cell)]
    known = {f"{row.paper[1]}" for row in PAPER_TABLES["4a"].rows + PAPER_TABLES["4b"].rows}
    assert measured
    assert {cell.strip() for cell in measured} <= known
    assert "Nothing was run." in text
    shipped = find_weights("scenes-r2d18-cidc")
    assert shipped is not None
    assert hashlib.sha256(shipped.read_bytes()).hexdigest()[:8] in text


def test_the_page_in_the_docs_follows_the_plan_that_ships(plan: ResultsPlan) -> None:
    shipped = load_config(example_path("results.yaml"), ResultsPlan)
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        "Networks",
        *(found.title for found in shipped.sets),
        "Machines and versions",
    ]
    command = "python -m train results --config configs/results.yaml"
    relative = shipped.model_copy(update={"config": Path("configs/small-sets.yaml")})
    empty: dict[PlannedRun, RunStatus] = dict.fromkeys(planned_runs(relative), RunStatus("missing"))
    written = results_page(relative, empty, command=command)
    assert page.partition("\n## ")[0] == written.partition("\n## ")[0]
    networks = written[written.index("## Networks") : written.index("## UT-Interaction, forward")]
    assert networks in page


def test_the_time_left_is_that_of_the_most_similar_runs(plan: ResultsPlan) -> None:
    runs = [run for run in planned_runs(plan) if isinstance(run, TrainingRun)]
    statuses: dict[PlannedRun, RunStatus] = dict.fromkeys(runs, RunStatus("left out"))
    first, second = (
        [run for run in runs if (run.network.id, run.clips) == (name, "all")]
        for name in ("cidc", "average-pooling")
    )
    missing = RunStatus("missing")
    statuses |= {first[0]: done(0.5, seconds=100), first[1]: done(0.5, seconds=200)}
    statuses |= {second[0]: done(0.5, seconds=30), second[1]: missing, first[2]: missing}
    assert remaining_seconds(statuses) == pytest.approx(150 + 30)
    other = next(run for run in runs if run.clips == 5)
    assert remaining_seconds(statuses | {other: missing}) == pytest.approx(180 + 110)
    assert remaining_seconds({other: missing}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sets.falls.kind=folders", "kind must be one of folder, arrow"),
        ("sets.scenes.clips_per_class=[0]", "clips_per_class"),
        ("sets.scenes.clips_per_class=[5, 5]", "twice"),
        ("sets.scenes.networks=[unknown]", r"names networks \['unknown'\]"),
        ("sets.scenes.colour=red", "unknown setting"),
        ("seeds=[1, 1]", "twice"),
        ("views=5", "views"),
        ("networks.cidc.paper.row=unknown", "has no row"),
        ("networks.cidc.paper.table=9z", "must be one of"),
        ("networks.cidc.id=Not a name", "id"),
    ],
)
def test_impossible_plans_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(example_path("results.yaml"), ResultsPlan, [change])


def test_figures_of_the_paper_belong_to_a_column() -> None:
    link = PaperLink(table="4b", row="one direction")
    assert (link.figure("UCF-101"), link.figure("HMDB-51")) == (95.5, 73.1)
    assert link.figure("Another set") is None
    assert PaperLink(table="normalisation", row="affine").figure("UCF-101") is None
