"""Write Grafana's dashboards from the table of panels: `python -m scripts.dashboards`.

The table is `deploy/grafana/panels.yaml`; the dashboards are `deploy/grafana/dashboards/*.json`.
With `--check`, no file is written; the exit status is 1 if one is not current.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.dashboard_table import Panel, Table, helps, names_in, tables

__all__ = ["DASHBOARDS", "dashboard", "main"]

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_TYPES = {
    "stat": "stat",
    "lines": "timeseries",
    "stacked": "timeseries",
    "states": "state-timeline",
    "table": "table",
}
# Columns of a table that say nothing to its reader.
_HIDDEN = ("Time", "Value", "__name__", "job")


def dashboard(table: Table) -> dict[str, Any]:
    """Return one dashboard as Grafana reads it."""
    texts = helps()
    return {
        "uid": f"cidc-{table.name}",
        "title": table.title,
        "description": table.about,
        "tags": ["cidc-stream"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "templating": {"list": _variables(table)},
        "annotations": {"list": []},
        "panels": list(_placed(table, texts)),
    }


def _link() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "CIDC stream",
        "tags": ["cidc-stream"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _variables(table: Table) -> list[dict[str, Any]]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }
    chosen = 'job=~"$job", instance=~"$instance"'
    found = [
        source,
        _variable("job", "label_values(cidc_worker_load, job)"),
        _variable("instance", 'label_values(cidc_worker_load{job=~"$job"}, instance)'),
        _variable("worker", f"label_values(cidc_worker_load{{{chosen}}}, worker)"),
    ]
    if table.of_a_camera:
        cameras = f"label_values(cidc_camera_state{{{chosen}}}, camera)"
        found.append(_variable("camera", cameras, one=True))
    return found


def _variable(name: str, query: str, *, one: bool = False) -> dict[str, Any]:
    """A variable that the viewer chooses; `all` also stands for series without the label."""
    variable: dict[str, Any] = {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": not one,
        "includeAll": not one,
    }
    if not one:
        variable |= {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return variable


def _placed(table: Table, texts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Panels with numbers and places: left to right, below the title of their row."""
    number = y = 0
    for title, panels in table.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            here = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": here} | _panel(panel, texts)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel, texts: Mapping[str, str]) -> dict[str, Any]:
    names = [name for query in panel.queries.values() for name in names_in(query)]
    known = dict.fromkeys(texts[name] for name in names if name in texts)
    made = {
        "type": _TYPES[panel.kind],
        "title": panel.title,
        "description": panel.about or "\n\n".join(known),
        "datasource": _SOURCE,
        "targets": [
            _target(panel, chr(ord("A") + index), legend, query)
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_colored(panel))},
        "options": _options(panel),
    }
    if panel.kind == "table":
        hidden = {"excludeByName": dict.fromkeys(_HIDDEN, True)}
        made["transformations"] = [{"id": "organize", "options": hidden}]
    return made


def _target(panel: Panel, ref: str, legend: str, query: str) -> dict[str, Any]:
    at_once = panel.kind in ("stat", "table")
    return {
        "refId": ref,
        "datasource": _SOURCE,
        "expr": query,
        "legendFormat": legend,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in panel.limits.items()]
    found: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.kind in ("stat", "table"):
        found["noValue"] = "none"
    if panel.kind == "stat" and panel.unit == "short":
        found["decimals"] = 0
    if panel.kind in ("lines", "stacked"):
        found |= {"min": 0} | ({} if panel.top is None else {"max": panel.top})
        found["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.kind == "stacked" else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.kind == "stacked" else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    if panel.kind == "states":
        found["custom"] = {"fillOpacity": 80, "lineWidth": 0}
        found["mappings"] = [{"type": "value", "options": {"1": {"text": "yes", "index": 0}}}]
    return found


def _colored(panel: Panel) -> Iterator[dict[str, Any]]:
    for name, color in panel.colors.items():
        fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": color}}
        yield {"matcher": {"id": "byName", "options": name}, "properties": [fixed]}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none"}
    if panel.kind == "table":
        return {"showHeader": True}
    if panel.kind == "states":
        return {"showValue": "never", "mergeValues": True, "legend": {"showLegend": False}}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the dashboards; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboards")
    parser.add_argument("--check", action="store_true", help="write no files; say which are old")
    options = parser.parse_args(arguments)
    found = 0
    for table in tables():
        path = DASHBOARDS / f"{table.name}.json"
        text = json.dumps(dashboard(table), indent=1) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        found = 1
        if options.check:
            print(f"{path.name} is not current: python -m scripts.dashboards", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return found if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
