"""Manifests: CSV files `path,label[,start_seconds,end_seconds[,fps]]`, paths relative to the file.

`fps` is the frame rate of an image sequence. A header line may name the columns in another order.
A path names a file or folder, never an address. What lies outside the manifest's folder needs an
absolute path, or a link in this folder.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs import DataError, clean_label, delimiter_of, quoted, read_text, readable
from model.media.image_sequence import MAX_IMAGE_FPS, MIN_IMAGE_FPS, ImageSequence

__all__ = ["COLUMNS", "Manifest", "ManifestEntry", "read_manifest"]

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "fps")
_SHAPE = "path,label[,start_seconds,end_seconds[,fps]]"
_MAX_ENTRIES = 5_000_000  # an entry needs about 1 kB of memory
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.I)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ManifestEntry:
    """A labelled video, or the part of a video between two presentation times in seconds.

    `fps` is the number of images per second if the video is a folder of images; None: the default.
    """

    path: Path
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    fps: float | None = None

    @property
    def video(self) -> Path | ImageSequence:
        """The video to decode: the path, or an image sequence if it is a folder with a rate."""
        if self.fps is None or not self.path.is_dir():
            return self.path
        return ImageSequence(self.path, self.fps)


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

    Columns are separated by commas, semicolons or tabs. Entries that are listed more than once are
    kept, and logged.

    Raises:
        DataError: the file is missing, too large or not CSV text, or a line is malformed, names an
            address, or leads out of the manifest's folder; the message names the line.
    """
    path = Path(path)
    text = read_text(path, "manifest", DataError, raw_names=True)
    delimiter = _delimiter(text)
    text = re.sub(r"\Asep=[,;\t]", "", text)
    rows = _rows(path, text, delimiter)
    columns: Sequence[str] | None = None
    if rows and {"path", "label"} <= {cell.strip().lower() for cell in rows[0][1]}:
        line, header = rows.pop(0)
        columns = _header(f"manifest {readable(path)}, line {line}", header)
    if not rows:
        raise DataError(f"manifest {readable(path)} has no entries; each line is {_SHAPE}")
    entries = tuple(_entry(path, line, row, columns, delimiter) for line, row in rows)
    _log_repetitions(path, entries)
    return Manifest(path, entries)


def _delimiter(text: str) -> str:
    """Return what separates the cells, from the first line with text.

    A spreadsheet may name the separator in a first line such as `sep=;`.
    """
    first = text.lstrip("\r\n \t").partition("\n")[0]
    return delimiter_of(first)


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that has text."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, row))
            if len(rows) > _MAX_ENTRIES:
                raise DataError(
                    f"manifest {readable(path)} has more than {_MAX_ENTRIES} entries; divide it"
                    " and name the parts in data.also"
                )
    except csv.Error as error:
        raise DataError(
            f"manifest {readable(path)}, line {reader.line_num} cannot be read as CSV: {error}"
        ) from None
    return rows


def _header(place: str, cells: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) != len(names):
        raise DataError(
            f"{place}: the columns {quoted(names)} must be different ones of {', '.join(COLUMNS)}"
        )
    return names


def _entry(
    manifest: Path, line: int, row: list[str], columns: Sequence[str] | None, delimiter: str
) -> ManifestEntry:
    place = f"manifest {readable(manifest)}, line {line}"
    cells = _cells(place, row, columns)
    label = cells.get("label", "")
    if not cells.get("path", "").strip() or not label.strip():
        raise DataError(f"{place}: path and label must not be empty")
    if any("\ud800" <= char <= "\udfff" for char in label):  # bytes that are not UTF-8
        raise DataError(
            f"{place}: the label {quoted(label)} is not UTF-8 text; save the file as UTF-8, for"
            " example with `iconv -f CP1252 -t UTF-8`"
        )
    numbers = {
        name: _number(place, name, cells[name], delimiter)
        for name in COLUMNS[2:]
        if cells.get(name, "").strip()
    }
    _check_numbers(place, numbers)
    video = _video(manifest, cells["path"], place)
    return ManifestEntry(video, clean_label(label), **numbers)


def _cells(place: str, row: list[str], columns: Sequence[str] | None) -> Mapping[str, str]:
    if columns is not None:
        while len(row) > len(columns) and not row[-1].strip():
            row.pop()
        if len(row) != len(columns):
            raise DataError(f"{place}: {len(row)} columns, but the header has {len(columns)}")
        return dict(zip(columns, row, strict=True))
    if len(row) not in (2, 4, 5):
        raise DataError(f"{place}: {len(row)} columns; a line is {_SHAPE}")
    return dict(zip(COLUMNS, row, strict=False))


def _check_numbers(place: str, numbers: Mapping[str, float]) -> None:
    start = numbers.get("start_seconds")
    end = numbers.get("end_seconds")
    if (start is None) != (end is None):
        raise DataError(f"{place}: start_seconds and end_seconds must be given together")
    if start is not None and end is not None and not 0 <= start < end:
        raise DataError(
            f"{place}: start_seconds {start} and end_seconds {end} must satisfy 0 <= start < end"
        )
    fps = numbers.get("fps")
    if fps is not None and not MIN_IMAGE_FPS <= fps <= MAX_IMAGE_FPS:
        raise DataError(f"{place}: fps {fps} must be from {MIN_IMAGE_FPS:g} to {MAX_IMAGE_FPS:g}")


def _video(manifest: Path, cell: str, place: str) -> Path:
    """Return the path in a cell; blanks at its ends, and backslashes, may belong to the name."""
    if _ADDRESS.match(cell):
        # Without login and query, which may hold passwords.
        address = re.split(r"[?#]", re.sub(r"//.*@", "//***@", cell, flags=re.DOTALL))[0]
        raise DataError(
            f"{place}: {quoted(address)} is an address, and a manifest names files only; save the"
            " video as a file and write its path"
        )
    tidy = cell.strip()
    candidates = (cell, tidy, tidy.replace("\\", "/"))
    present = (name for name in candidates if os.path.lexists(manifest.parent / name))
    name = next(present, tidy)
    if Path(name).is_absolute() or ".." not in Path(name).parts:
        return manifest.parent / name
    # Behind a link to a folder, `..` would lead to a folder beside the link's target.
    inside = Path(os.path.normpath(name))
    if ".." in inside.parts:
        raise DataError(
            f"{place}: {quoted(cell)} leads out of the manifest's folder; write an absolute path,"
            " or move the manifest"
        )
    return manifest.parent / inside


def _number(place: str, name: str, cell: str, delimiter: str) -> float:
    text = cell.strip()
    try:
        # Spreadsheets that separate columns by semicolons write decimal commas.
        value = float(text.replace(",", ".") if delimiter != "," else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        kind = "frame rate" if name == "fps" else "time in seconds"
        raise DataError(f"{place}: {quoted(text)} is not a {kind}")
    return value


def _log_repetitions(path: Path, entries: Sequence[ManifestEntry]) -> None:
    repeated = [entry for entry, count in Counter(entries).items() if count > 1]
    if repeated:
        _log.warning(
            "%s lists %d entries more than once (first: %s)",
            readable(path),
            len(repeated),
            readable(repeated[0].path),
        )
    videos = {(entry.path, entry.start_seconds, entry.end_seconds) for entry in entries}
    labelled = {dataclasses.replace(entry, fps=None) for entry in entries}
    if len(labelled) > len(videos):
        _log.warning(
            "%s gives %d videos more than one label", readable(path), len(labelled) - len(videos)
        )
