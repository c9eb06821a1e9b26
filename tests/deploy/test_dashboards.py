"""The dashboards are those of the table, and Grafana can lay them out."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import dashboards
from scripts.dashboard_table import Panel, helps, tables
from tests import ROOT

FILES = sorted(dashboards.DASHBOARDS.glob("*.json"))
PROVISIONING = ROOT / "deploy/grafana/provisioning"
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_the_files_are_what_the_script_writes() -> None:
    assert dashboards.main(["--check"]) == 0
    assert {file.stem for file in FILES} == {table.name for table in tables()}


def test_a_file_that_is_not_current_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboards, "DASHBOARDS", tmp_path)
    monkeypatch.setattr(dashboards, "ROOT", tmp_path)
    assert dashboards.main(["--check"]) == 1
    assert "fleet.json" in capsys.readouterr().err
    assert dashboards.main([]) == 0
    assert read(tmp_path / "fleet.json") == read(dashboards.DASHBOARDS / "fleet.json")


@every_file
def test_panels_have_numbers_of_their_own_and_do_not_overlap(file: Path) -> None:
    panels = read(file)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        covered = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not covered & cells, panel["title"]
        cells |= covered


@every_file
def test_queries_use_only_variables_that_the_dashboard_has(file: Path) -> None:
    content = read(file)
    known = {each["name"] for each in content["templating"]["list"]}
    for panel in content["panels"]:
        for target in panel.get("targets", []):
            used = set(re.findall(r"\$(\w+)", target["expr"]))
            assert {name for name in used if not name.startswith("__")} <= known
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {
        name
        for table in tables()
        for panel in table.panels
        for query in panel.queries.values()
        for name in re.findall(r"cidc_\w+", query)
    }
    hidden = {
        "cidc_camera_last_frame_timestamp_seconds",  # its age is shown
        "cidc_camera_paused",
        "cidc_fleet_epoch",
        "cidc_fleet_topic_partitions",
        "cidc_fleet_unreadable_records_total",
        "cidc_worker_up",
        "cidc_worker_restarts_total",
    }
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in helps()}
    assert families - {re.sub("_(bucket|sum|count)$", "", name) for name in shown} == hidden


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="pie"):
        Panel.of({"title": "a", "kind": "pie", "queries": {}})


def test_grafana_finds_its_data_source_and_the_dashboards() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/cidc.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
