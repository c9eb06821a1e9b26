"""Reads the lists that data sets come with, and finds the videos that they name."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs import DataError, delimiter_of, lines_of, quoted, read_text, readable
from train.data.datasets.listing import is_present

__all__ = ["first_list", "first_present", "read_columns", "read_json", "read_table"]


def first_present(videos: Path, *places: str, where: str) -> Path:
    """Return the first of `places` that is a video in `videos`; without one, the first place.

    Instead of a file, there may be a folder of images with the file's name without extension.

    Raises:
        DataError: a place is not in `videos`; the message begins with `where`.
    """
    outside = next((place for place in places if _leads_out(place)), None)
    if outside is not None:
        raise DataError(
            f"{where}: {quoted(outside)} leads out of the folder of videos"
            f" {readable(videos)}; list only videos of this folder"
        )
    folders = [os.path.splitext(place)[0] for place in places]  # noqa: PTH122 - keeps `a//b`
    candidates = (videos / place for place in (*places, *folders))
    return next(filter(is_present, candidates), videos / places[0])


def _leads_out(place: str) -> bool:
    return Path(place).is_absolute() or ".." in Path(place).parts


def first_list(folder: Path, *names: str) -> Path:
    """Return the first of these files that is in a folder.

    Raises:
        DataError: none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"none of {', '.join(names)} is in {readable(folder)}")


def read_columns(
    path: Path, columns: int, *, number_first: bool = False
) -> list[tuple[int, list[str]]]:
    """Return the line number and the columns of each line that is not empty.

    The first column may contain blanks; each of the other columns is one word. If `number_first`
    is True, the last column may contain blanks instead.
    """
    text = read_text(path, "list", DataError, raw_names=True)
    found = []
    for number, line in enumerate(lines_of(text), 1):
        split = line.strip().split if number_first else line.strip().rsplit
        words = split(maxsplit=columns - 1)
        if line.strip() and len(words) != columns:
            raise DataError(
                f"{readable(path)}, line {number}: {columns} columns expected, got"
                f" {quoted(line.strip())}"
            )
        if words:
            found.append((number, words))
    return found


def read_table(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the line number and the cells of each line of a CSV file with a header line."""
    text = read_text(path, "list", DataError)
    lines = lines_of(text)
    blank = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = delimiter_of(lines[blank])
    table = io.StringIO("\n".join(lines[blank:]))
    reader = csv.DictReader(table, strict=True, delimiter=delimiter)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            if any(str(cell or "").strip() for cell in row.values()):
                yield blank + reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{readable(path)}, line {blank + reader.line_num} is not CSV: {error}"
        ) from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path, "list", DataError))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise DataError(f"{readable(path)} is not JSON: {error}") from None
