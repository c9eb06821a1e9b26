"""Write the truth of the falls in GMDCSA-24: `python -m scripts.fall_truth --list TABLE --out CSV`.

TABLE is separated by tabs and has the columns `path`, relative to the table, and `notes`, which
holds the data set's own spans in seconds, such as `Falling (BW)[0.4 to 4]; Standing[0 to 0.3]`.
Falls become entries `fall`; a recording without falls becomes an entry `background` without times.
Videos are named where they lie; none is copied.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from configs import DataError, exit_status, replaced_file

__all__ = ["main", "spans_of"]

_FALL = re.compile(r"\bFalling\b[^;\[]*\[\s*([\d.]+)\s+to\s+([\d.]+)\s*\]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the truth; return the exit status."""
    return exit_status(lambda: _main(arguments))


def spans_of(notes: str) -> list[tuple[float, float]]:
    """Return start and end in seconds of each fall that the notes name."""
    return [(float(start), float(end)) for start, end in _FALL.findall(notes)]


def _main(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.fall_truth")
    parser.add_argument("--list", type=Path, required=True, help="table with path and notes")
    parser.add_argument("--folder", default="gmdcsa24", help="text in the paths that are taken")
    parser.add_argument("--out", type=Path, required=True, help="truth to write")
    options = parser.parse_args(arguments)
    with options.list.open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    taken = [row for row in listed if options.folder in (row.get("path") or "")]
    if not taken:
        raise DataError(
            f"{options.list} names no path with {options.folder!r}; choose another --folder"
        )
    rows: list[tuple[object, ...]] = []
    for row in taken:
        path = options.list.parent.resolve() / row["path"]
        spans = spans_of(row.get("notes") or "")
        rows += [(path, "fall", start, end) for start, end in spans]
        if not spans:
            rows.append((path, "background", "", ""))
    with (
        replaced_file(options.out) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("path", "label", "start_seconds", "end_seconds"))
        writer.writerows(rows)
    falls = sum(row[1] == "fall" for row in rows)
    print(f"{falls} falls in {len(taken)} recordings; wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
