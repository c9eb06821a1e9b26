"""Alertmanager's configuration: `amtool` accepts it, and alerts go where their severity says."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests import ROOT
from tests.support.prometheus import tool

FILE = ROOT / "deploy/alertmanager/alertmanager.yml"
CONFIG = yaml.safe_load(FILE.read_text(encoding="utf-8"))
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
LABELS = {
    rule["alert"]: rule["labels"]
    for group in RULES["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def amtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [tool("amtool", "prometheus-alertmanager"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_amtool_accepts_the_configuration() -> None:
    done = amtool("check-config", str(FILE))
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_comments_is_accepted(tmp_path: object) -> None:
    text = FILE.read_text(encoding="utf-8")
    lines = [line[2:] for line in text.splitlines() if line.startswith("#   ")]
    assert len(lines) > 5
    example = yaml.safe_load("\n".join(lines))
    changed = {**CONFIG, "receivers": [*example, {"name": "page"}]}
    path = f"{tmp_path}/alertmanager.yml"
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        yaml.safe_dump(changed, file)
    done = amtool("check-config", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "now"), ("warning", "today"), ("info", "page"), ("other", "today")],
)
def test_alerts_go_where_their_severity_says(severity: str, receiver: str) -> None:
    done = amtool("config", "routes", "test", f"--config.file={FILE}", f"severity={severity}")
    assert done.stdout.split() == [receiver], done.stderr


def test_inhibitions_name_alerts_and_areas_that_exist() -> None:
    areas = {labels["area"] for labels in LABELS.values()}
    for rule in CONFIG["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, values = re.split(r"\s*=~?\s*", matcher)
            known = set(LABELS) if label == "alertname" else areas
            assert set(values.split("|")) <= known, matcher
        assert set(rule["equal"]) <= {"job", "instance", "worker"}


def test_it_notifies_nobody_and_needs_no_secret() -> None:
    assert all(set(receiver) == {"name"} for receiver in CONFIG["receivers"])
