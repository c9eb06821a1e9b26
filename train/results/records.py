"""Keeps the results of finished runs in one file, so that they stay when the runs' folders go.

One line per run, sorted by name: `{"run": NAME, "figures": ..., "fingerprint": ..., ...}`, which is
the run's `result.json`. A recorded result counts as long as its fingerprint is the present one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs import DataError, read_text, write_file

__all__ = ["Records"]


class Records:
    """The results of finished runs, by the names of the runs.

    Args:
        path: file of JSON lines; created by the first result.

    Raises:
        DataError: a line is not a result.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        for number, line in enumerate(
            read_text(path, "records of results", DataError).splitlines(), start=1
        ):
            try:
                result = json.loads(line)
                name = result.pop("run")
                if not {"figures", "fingerprint", "seconds", "environment"} <= result.keys():
                    raise KeyError(name)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(
                    f"{path}, line {number} is not the result of a run; restore the file or remove"
                    " the line"
                ) from None
            self._results[name] = result

    def get(self, name: str) -> dict[str, Any] | None:
        """Return the result of a run; None if none is recorded."""
        return self._results.get(name)

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Record the result of a run, in place of an earlier one."""
        if self._results.get(name) == result:
            return
        self._results[name] = result
        lines = [json.dumps({"run": each, **self._results[each]}) for each in sorted(self._results)]
        write_file(self._path, "".join(f"{line}\n" for line in lines))
