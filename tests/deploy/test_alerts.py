"""Alerts: `promtool` accepts and tests them, each fires and stays silent, each has its section."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tests.support.prometheus import tool
from tests.support.promql import Names

FOLDER = ROOT / "deploy/prometheus"
CASES = sorted(FOLDER.glob("*.test.yaml"))
HANDBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
GROUPS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = [test for file in CASES for test in yaml.safe_load(file.read_text())["tests"]]
# What a query over a recorded name stands on.
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    arguments = [str(each) for each in command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def test_promtool_accepts_the_rules() -> None:
    done = run(tool("promtool"), "check", "rules", FOLDER / "alerts.yaml")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name)
def test_alerts_fire_and_stay_silent_as_their_cases_say(file: Path) -> None:
    done = run(tool("promtool"), "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wrong_case_fails(tmp_path: Path) -> None:
    case = copy.deepcopy(next(test for test in TESTS if test["name"] == "CidcOverload"))
    case["alert_rule_test"][1]["exp_alerts"] = []
    content = {"rule_files": [str(FOLDER / "alerts.yaml")], "tests": [case]}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(content))
    assert run(tool("promtool"), "test", "rules", tmp_path / "wrong.yaml").returncode != 0


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    (case,) = (test for test in TESTS if test["name"] == alert)
    fires = {bool(each["exp_alerts"]) for each in case["alert_rule_test"]}
    assert fires == {True, False}
    assert {each["alertname"] for each in case["alert_rule_test"]} == {alert}
    # The silent case is not silent for want of data.
    named = {each["series"].partition("{")[0] for each in case["input_series"]}
    query = ALERTS[alert]["expr"]
    while recorded := [name for name in RECORDED if name in query]:
        for name in recorded:
            query = query.replace(name, RECORDED[name].replace(name, ""))
    assert set(Names.of(query).metrics) | ({"up"} if re.search(r"\bup{", query) else set()) <= named


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_an_operator_needs(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["labels"]["area"]
    assert "for" in rule
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{" in rule["annotations"]["description"] or rule["expr"].startswith("absent")
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{alert.lower()}"


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert sorted(re.findall(r"^### (Cidc\w+)$", HANDBOOK, re.M)) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_section_says_what_it_means_and_what_to_do(alert: str) -> None:
    section = re.split(r"^#{2,3} ", HANDBOOK.split(f"### {alert}\n")[1], flags=re.M)[0]
    for part in ("**Meaning.**", "**Look at**", "**Do.**"):
        assert part in section


def test_jobs_are_named_in_one_place() -> None:
    named = [rule for rule in RULES if re.search(r"job\s*(=|!)", rule["expr"])]
    assert [rule.get("record") for rule in named] == ["cidc:up"]


def test_prometheus_of_compose_is_valid(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    assert "/etc/prometheus/alerts.yaml" in text
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/alerts.yaml", str(FOLDER / "alerts.yaml")))
    done = run(tool("promtool"), "check", "config", config)
    assert done.returncode == 0, done.stderr
    jobs = [each["job_name"] for each in yaml.safe_load(text)["scrape_configs"]]
    pattern = re.search(r'job=~"(.*?)"', RECORDED["cidc:up"])
    assert pattern is not None
    assert [job for job in jobs if re.fullmatch(pattern[1], job)] == ["cidc-stream"]
