"""Draw the dashboards from a Prometheus: `python -m scripts.dashboard_pictures`.

Each dashboard becomes one PNG with all its panels, as a check by eye without Grafana. Colours and
axes are not Grafana's; titles, queries, legends, units, limits and places are.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

from scripts.dashboards import COLUMNS, DASHBOARDS

__all__ = ["amount", "draw", "main"]

mpl.use("Agg")
_COLUMN_INCHES = 0.85
_LINE_INCHES = 0.42
_MAX_SERIES = 12
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

Series = tuple[str, list[float], list[float]]


class Source:
    """A Prometheus and the time that is drawn.

    Args:
        address: such as `http://127.0.0.1:9090`.
        seconds: length of the time that is drawn.
        ago_seconds: how long ago it ended.
        variables: values of Grafana's variables, by name.
    """

    def __init__(
        self, address: str, seconds: float, variables: Mapping[str, str], ago_seconds: float = 0
    ) -> None:
        self._address = address.rstrip("/")
        self._end = time.time() - ago_seconds
        self._start = self._end - seconds
        self._step = max(1.0, seconds / 200)
        self._variables = {
            "__rate_interval": "20s",
            "__range": f"{int(seconds)}s",
            "job": ".*",
            "instance": ".*",
            "worker": ".*",
            "camera": ".*",
        } | dict(variables)

    def lines(self, query: str, legend: str) -> list[Series]:
        """The series of a query over the time: name, seconds before its end, values."""
        parameters = {"start": self._start, "end": self._end, "step": self._step}
        found = self._get("query_range", query, **parameters)["result"]
        return [
            (
                _name(legend, each["metric"]),
                [float(at) - self._end for at, _ in each["values"]],
                [float(value) for _, value in each["values"]],
            )
            for each in found
        ]

    def now(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The samples of a query at the end of the time: labels and value."""
        found = self._get("query", query, time=self._end)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def _get(self, path: str, query: str, **parameters: float) -> Any:
        for name, value in self._variables.items():
            query = re.sub(rf"\${name}\b", value, query)
        text = urllib.parse.urlencode({"query": query, **parameters})
        with urllib.request.urlopen(f"{self._address}/api/v1/{path}?{text}", timeout=30) as answer:
            return json.load(answer)["data"]


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend).strip() or "value"


def amount(value: float, unit: str) -> str:
    """Write a value with its unit, as Grafana roughly does."""
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else _seconds(value)
    ending = {"bytes": "B", "Bps": "B/s", "short": ""}.get(unit, unit.removeprefix("suffix: "))
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}{ending}"
    return f"{value:.3g} {ending}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"


def draw(content: Mapping[str, Any], source: Source) -> tuple[Any, list[str]]:
    """Draw one dashboard; return the figure, and the titles of panels without data."""
    panels = content["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    figure = pyplot.figure(
        figsize=(COLUMNS * _COLUMN_INCHES, height * _LINE_INCHES), facecolor="#f4f5f5"
    )
    figure.suptitle(content["title"], y=1 - 0.4 / height, fontsize=15, weight="bold")
    empty = []
    for panel in panels:
        at = panel["gridPos"]
        left, top = at["x"] / COLUMNS, 1 - (at["y"] + 1) / height
        if panel["type"] == "row":
            figure.text(0.01, top - 0.8 / height, panel["title"], fontsize=12, weight="bold")
            continue
        wide, high = at["w"] / COLUMNS, at["h"] / height
        axes = figure.add_axes(
            (left + 0.03, top - high + 1.6 / height, wide - 0.04, high - 2.9 / height)
        )
        axes.set_title(panel["title"], fontsize=10, loc="left")
        drawer = {"stat": _draw_stat, "table": _draw_table}.get(panel["type"], _draw_lines)
        if not drawer(axes, panel, source):
            empty.append(panel["title"])
            axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
            axes.set_axis_off()
    return figure, empty


def _draw_stat(axes: Any, panel: Mapping[str, Any], source: Source) -> bool:
    axes.set_axis_off()
    samples = source.now(panel["targets"][0]["expr"])
    if not samples:
        return False
    value = samples[0][1]
    defaults = panel["fieldConfig"]["defaults"]
    color = "green"
    for step in defaults["thresholds"]["steps"][1:]:
        color = step["color"] if value >= step["value"] else color
    color = "darkorange" if color == "yellow" else color
    text = amount(value, defaults["unit"])
    axes.text(0.0, 0.5, text, fontsize=20, va="center", color=color, transform=axes.transAxes)
    return True


def _draw_table(axes: Any, panel: Mapping[str, Any], source: Source) -> bool:
    axes.set_axis_off()
    hidden = panel["transformations"][0]["options"]["excludeByName"]
    rows = [
        {name: value for name, value in labels.items() if name not in hidden}
        for labels, _ in source.now(panel["targets"][0]["expr"])
    ]
    if not rows:
        return False
    heads = sorted({name for row in rows for name in row})
    cells = [[row.get(head, "")[:40] for head in heads] for row in rows[:6]]
    table = axes.table(cellText=cells, colLabels=heads, loc="upper left", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(heads))))
    return True


def _draw_lines(axes: Any, panel: Mapping[str, Any], source: Source) -> bool:
    series = [
        each
        for target in panel["targets"]
        for each in source.lines(target["expr"], target["legendFormat"])
    ][:_MAX_SERIES]
    if not series:
        return False
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    colors = _fixed_colors(panel)
    if panel["type"] == "state-timeline":
        for row, (name, times, _) in enumerate(series):
            axes.scatter(times, [row] * len(times), marker="s", s=60, color=colors.get(name))
        axes.set_yticks(range(len(series)), [name for name, _, _ in series], fontsize=7)
        axes.set_ylim(-0.6, len(series) - 0.4)
        return True
    if custom["stacking"]["mode"] == "normal":
        times = sorted({at for _, moments, _ in series for at in moments})
        found = [dict(zip(moments, values, strict=True)) for _, moments, values in series]
        values = [[known.get(at, 0.0) for at in times] for known in found]
        areas = axes.stackplot(times, values, labels=[name for name, _, _ in series], alpha=0.7)
        for area, (name, _, _) in zip(areas, series, strict=True):
            area.set_facecolor(colors.get(name, area.get_facecolor()))
    else:
        for name, times, numbers in series:
            axes.plot(times, numbers, label=name, linewidth=1.2)
    _finish_axes(axes, defaults)
    return True


def _fixed_colors(panel: Mapping[str, Any]) -> dict[str, str]:
    overrides = panel["fieldConfig"]["overrides"]
    return {
        each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"]
        for each in overrides
    }


def _finish_axes(axes: Any, defaults: Mapping[str, Any]) -> None:
    axes.set_ylim(bottom=0, top=defaults.get("max"))
    highest = axes.get_ylim()[1]
    for step in defaults["thresholds"]["steps"][1:]:
        if step["value"] <= highest:
            axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: amount(value, defaults["unit"]))
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.1), frameon=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all dashboards; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboard_pictures")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address")
    parser.add_argument("--seconds", type=float, default=600, help="time that is drawn")
    parser.add_argument("--ago", type=float, default=0, help="seconds since the end of that time")
    parser.add_argument("--camera", default=".*", help="camera of the dashboard of one camera")
    parser.add_argument("--out", type=Path, default=Path(".work/dashboards"), help="folder of PNGs")
    parser.add_argument("--only", default="*", help="name of one dashboard, such as fleet")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    source = Source(options.prometheus, options.seconds, {"camera": options.camera}, options.ago)
    for path in sorted(DASHBOARDS.glob(f"{options.only}.json")):
        try:
            figure, empty = draw(json.loads(path.read_text(encoding="utf-8")), source)
        except OSError as error:
            print(f"error: Prometheus at {options.prometheus}: {error}", file=sys.stderr)
            return 1
        out = options.out / f"{path.stem}.png"
        figure.savefig(out, dpi=70)
        pyplot.close(figure)
        print(f"wrote {out}" + (f"; without data: {', '.join(empty)}" if empty else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
