"""Write what the Helm chart takes from other places: alerts, dashboards, schema of `config`.

    .venv/bin/python -m scripts.chart_files

A chart can only contain files of its own folder, so alerts and dashboards are copied into it. The
schema of its value `config` is the one of the pipeline's settings, without those that the chart
sets itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.chart_schema import with_config_schema
from stream.config import StreamConfig

__all__ = ["CHART", "SOURCES", "expected_files", "main"]

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "cidc-stream"
# Files that are copied, by pattern below the root, and the folder of the chart that they go to.
SOURCES: Mapping[str, str] = {
    "deploy/prometheus/alerts.yaml": "files",
    "deploy/grafana/dashboards/*.json": "files/dashboards",
}
_SCHEMA = CHART / "values.schema.json"


def expected_files() -> dict[Path, str]:
    """Return the text that each generated file of the chart must have, by its path.

    Raises:
        FileNotFoundError: no file fits one of the patterns of `SOURCES`.
    """
    files = {}
    for pattern, folder in SOURCES.items():
        found = sorted(ROOT.glob(pattern))
        if not found:
            raise FileNotFoundError(f"{pattern}: there is no such file to copy into the chart")
        for source in found:
            files[CHART / folder / source.name] = source.read_text(encoding="utf-8")
    files[_SCHEMA] = schema_text()
    return files


def schema_text() -> str:
    """Return values.schema.json: what is written by hand in it, with the current `config`."""
    schema: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return json.dumps(with_config_schema(schema, StreamConfig.model_json_schema()), indent=2) + "\n"


def stale_copies(files: Mapping[Path, str]) -> list[Path]:
    """Return files in the folders of copies whose sources no longer exist."""
    folders = {CHART / folder for folder in SOURCES.values()}
    there = {path for folder in folders for path in folder.glob("*") if path.is_file()}
    return sorted(there - files.keys())


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the generated files of the Helm chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file differs")
    check = parser.parse_args(arguments).check
    try:
        files = expected_files()
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    differing = [
        path
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    stale = stale_copies(files)
    if check:
        for path in [*differing, *stale]:
            print(
                f"{path.relative_to(ROOT)} is not current; run: python -m scripts.chart_files",
                file=sys.stderr,
            )
        return 1 if differing or stale else 0
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    for path in stale:
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
