"""Generated files of the Helm chart are current, and its schema knows every value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import chart_files
from scripts.chart_schema import with_config_schema
from stream.config import StreamConfig
from tests import ROOT

SCHEMA: dict[str, Any] = json.loads((chart_files.CHART / "values.schema.json").read_text("utf-8"))


def test_alerts_dashboards_and_schema_of_the_chart_are_current(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = [pattern for pattern in chart_files.SOURCES if not list(ROOT.glob(pattern))]
    if missing:
        pytest.skip(f"the sources are not in this checkout: {missing}")
    status = chart_files.main(["--check"])
    assert status == 0, capsys.readouterr().err


def test_the_schema_of_config_is_that_of_the_product() -> None:
    assert with_config_schema(SCHEMA, StreamConfig.model_json_schema()) == SCHEMA


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with one dashboard, alerts and a schema."""
    chart = tmp_path / "chart"
    for file, text in {
        "alerts.yaml": "groups: []\n",
        "one.json": "{}\n",
        "chart/values.schema.json": json.dumps({"properties": {"replicas": {}}}),
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(chart_files, "ROOT", tmp_path)
    monkeypatch.setattr(chart_files, "CHART", chart)
    monkeypatch.setattr(chart_files, "_SCHEMA", chart / "values.schema.json")
    sources = {"alerts.yaml": "files", "*.json": "files/dashboards"}
    monkeypatch.setattr(chart_files, "SOURCES", sources)
    return tmp_path


def test_copies_are_written_compared_and_removed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chart_files.main(["--check"]) == 1
    assert not (project / "chart/files").exists()
    assert chart_files.main([]) == 0
    copy = project / "chart/files/dashboards/one.json"
    assert copy.read_text() == "{}\n"
    assert chart_files.main(["--check"]) == 0
    copy.write_text("[]\n")
    capsys.readouterr()
    assert chart_files.main(["--check"]) == 1
    assert "chart/files/dashboards/one.json is not current" in capsys.readouterr().err
    (project / "one.json").rename(project / "two.json")
    assert chart_files.main([]) == 0
    assert [path.name for path in copy.parent.iterdir()] == ["two.json"]


def test_a_missing_source_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "alerts.yaml").unlink()
    assert chart_files.main([]) == 1
    assert "alerts.yaml" in capsys.readouterr().err


def leaves(tree: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all values of a tree; a list is one value."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path


def allowed(schema: Any, path: str = "") -> Iterator[str]:
    """The dotted paths of all values that a schema names."""
    for key, inner in schema["properties"].items():
        name = f"{path}.{key}".lstrip(".")
        if "properties" in inner and name not in ("config", "affinity"):
            yield from allowed(inner, name)
        else:
            yield name


def test_every_value_has_a_default_and_a_comment() -> None:
    text = (chart_files.CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    named = set(allowed(SCHEMA)) - {"global"}
    for path in named:
        node = defaults
        for key in path.split("."):
            if path.startswith("resources.") and key not in node:
                break
            assert key in node, f"values.yaml does not have {path}"
            node = node[key]
    # Sections that speak for themselves below one comment, and single keys with a comment each.
    blocks = text.split("\n\n")
    for section in defaults:
        (block,) = (each for each in blocks if f"\n{section}:" in f"\n{each}")
        assert "#" in block, f"values.yaml does not explain {section}"


def test_the_schema_is_strict_at_every_place() -> None:
    def walk(schema: Any, path: str) -> None:
        if isinstance(schema, dict):
            # Requests and limits have names of resources.
            if "properties" in schema and isinstance(schema["properties"], dict):
                strict = schema.get("additionalProperties") is False
                assert strict or path.endswith(("requests", "limits")), path
            for key, value in schema.items():
                walk(value, f"{path}/{key}")

    walk(SCHEMA, "")
