"""The quarantine: a list of videos that became unreadable during a run and are not used again."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

from configs import DataError, read_text, readable
from train.data.manifest import ManifestEntry

__all__ = ["Quarantine"]

_ERRORS = "surrogateescape"  # file names that are not UTF-8 are written as they are
_log = logging.getLogger(__name__)


class Quarantine:
    """Remembers the videos that became unreadable; a resumed run reads the list again.

    Args:
        path: CSV file `path,problem` to which the videos are written. The other files
            `quarantine*.csv` in its folder are read too; other training processes write them.
        max_videos: maximum number of videos in the quarantine.
    """

    def __init__(self, path: Path, max_videos: int) -> None:
        self._path = path
        self._max_videos = max_videos
        self._paths: set[str] = set()
        for file_path in path.parent.glob("quarantine*.csv") if path.parent.is_dir() else ():
            text = read_text(file_path, "quarantine", DataError, raw_names=True)
            try:
                self._paths |= {row[0] for row in csv.reader(io.StringIO(text, newline="")) if row}
            except csv.Error as error:
                raise DataError(
                    f"quarantine {readable(file_path)} cannot be read as CSV ({error}); remove it"
                ) from None

    def __contains__(self, entry: ManifestEntry) -> bool:
        return str(entry.path) in self._paths

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, entry: ManifestEntry, problem: str) -> None:
        """Add a video, so that it is not used again.

        Raises:
            DataError: the quarantine holds more than `max_videos` videos.
        """
        self._paths.add(str(entry.path))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="", encoding="utf-8", errors=_ERRORS) as file:
            csv.writer(file).writerow([str(entry.path), problem])
        _log.warning("video left out from now on: %s", problem)
        if len(self._paths) > self._max_videos:
            raise DataError(
                f"{len(self._paths)} videos became unreadable during the run (last: {problem});"
                f" see data.max_bad_fraction and {readable(self._path)}"
            )
