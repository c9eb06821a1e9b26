"""Manifests: CSV files `path,label[,start_seconds,end_seconds]`, paths relative to the manifest."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import Counter
from pathlib import Path

from configs import DataError

__all__ = ["Manifest", "ManifestEntry", "read_manifest"]


@dataclasses.dataclass(frozen=True)
class ManifestEntry:
    """A labelled video, or the part of a video between two presentation times in seconds."""

    path: Path
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The entries of a manifest, in file order."""

    path: Path
    entries: tuple[ManifestEntry, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The number of entries of each label."""
        return dict(Counter(entry.label for entry in self.entries))


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest; a header line is optional.

    Raises:
        DataError: the file is missing, is not CSV text, or a line is malformed; the message names
            the line.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                (reader.line_num, row)
                for reader in [csv.reader(file, strict=True)]
                for row in reader
                if row
            ]
    except FileNotFoundError:
        raise DataError(f"manifest not found: {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"manifest {path} cannot be read as CSV: {error}") from None
    if rows and [cell.strip() for cell in rows[0][1][:2]] == ["path", "label"]:
        rows = rows[1:]
    if not rows:
        raise DataError(
            f"manifest {path} has no entries; each line is path,label[,start_seconds,end_seconds]"
        )
    return Manifest(
        path, tuple(_entry(path, line, [cell.strip() for cell in row]) for line, row in rows)
    )


def _entry(manifest: Path, line: int, row: list[str]) -> ManifestEntry:
    place = f"manifest {manifest}, line {line}"
    if len(row) not in (2, 4):
        raise DataError(
            f"{place}: {len(row)} columns; a line is path,label[,start_seconds,end_seconds]"
        )
    if not row[0] or not row[1]:
        raise DataError(f"{place}: path and label must not be empty")
    video = manifest.parent / row[0]
    if len(row) == 2 or (not row[2] and not row[3]):
        return ManifestEntry(video, row[1])
    start, end = (_seconds(place, cell) for cell in row[2:])
    if not 0 <= start < end:
        raise DataError(
            f"{place}: start_seconds {start} and end_seconds {end} must satisfy 0 <= start < end"
        )
    return ManifestEntry(video, row[1], start, end)


def _seconds(place: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: {cell!r} is not a time in seconds")
    return value
