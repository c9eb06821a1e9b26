"""Finds the videos of a manifest that can be read; a run leaves out the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.markup import escape
from rich.progress import track

from configs import DataError, MediaError, readable, shows_progress
from model.media.colour import log_fallback
from model.media.container import resolved
from train.config import DataConfig
from train.data.clip_store import ClipStore
from train.data.manifest import Manifest, ManifestEntry
from train.data.video_check import FileReport, read_report, report_path
from train.distributed import Ranks

__all__ = ["check_labels", "readable_entries"]

_log = logging.getLogger(__name__)


def readable_entries(
    manifest: Manifest,
    data: DataConfig,
    store: ClipStore,
    *,
    threads: int = 2,
    ranks: Ranks | None = None,
    use_report: bool = True,
) -> list[ManifestEntry]:
    """Return the entries whose videos decode; the others are logged and left out.

    The decoded frames fill the store's cache. If the report of `python -m train validate` covers a
    whole file, and the file has not changed since, the file is not decoded again.

    Args:
        threads: number of videos that are decoded at the same time.
        ranks: the processes that train together; each checks a part of the videos, and all get the
            full result.
        use_report: whether to use the report of `python -m train validate`.

    Raises:
        DataError: a label is unknown, or more than `max_bad_fraction` of the videos are unreadable.
    """
    ranks = ranks or Ranks()
    check_labels(manifest, data)
    known = _read_known(manifest) if use_report else {}
    mine = ranks.part_of(manifest.entries)
    with ThreadPoolExecutor(threads) as pool:
        problems = track(
            pool.map(lambda entry: _find_problem(store, entry, known), mine),
            description=escape(f"reading {readable(manifest.path.name)}"),
            total=len(mine),
            disable=not (ranks.is_first and shows_progress()),
        )
        return _good_entries(manifest, ranks.gather(list(problems)), data.max_bad_fraction)


def check_labels(manifest: Manifest, data: DataConfig) -> None:
    """Check that the configuration names every label of a manifest.

    Raises:
        DataError: a label is unknown.
    """
    unknown = sorted(set(manifest.counts) - set(data.labels))
    if unknown:
        raise DataError(
            f"manifest {manifest.path} has labels {unknown} that data.labels does not name"
        )


def _good_entries(
    manifest: Manifest, problems: Sequence[str | None], max_bad_fraction: float
) -> list[ManifestEntry]:
    found = [problem for problem in problems if problem is not None]
    for problem in found:
        _log.warning("left out: %s", problem)
    if found:
        _log.warning("%d of %d videos of %s left out", len(found), len(problems), manifest.path)
    if len(found) == len(problems) or len(found) > max_bad_fraction * len(problems):
        raise DataError(
            f"{len(found)} of {len(problems)} videos of {manifest.path} are unreadable (first:"
            f" {found[0]}); see data.max_bad_fraction, and --allow-missing to evaluate"
        )
    pairs = zip(manifest.entries, problems, strict=True)
    return [entry for entry, problem in pairs if problem is None]


def _read_known(manifest: Manifest) -> Mapping[Path, FileReport]:
    known = read_report(report_path(manifest.path))
    if known:
        _log.info(
            "%s: %d of %d entries were checked earlier, by `python -m train validate`",
            manifest.path,
            sum(_is_known(entry, known) for entry in manifest.entries),
            len(manifest.entries),
        )
    for report in known.values():
        if report.note:
            log_fallback(report.path, report.note)
    return known


def _is_known(entry: ManifestEntry, known: Mapping[Path, FileReport]) -> bool:
    """Tell whether the report covers an entry; entries for a part of a file are never covered."""
    return entry.start_seconds is None and resolved(entry.path) in known


def _find_problem(
    store: ClipStore, entry: ManifestEntry, known: Mapping[Path, FileReport]
) -> str | None:
    if _is_known(entry, known):
        problem = known[resolved(entry.path)].problem
        return None if problem is None else f"{readable(entry.path)}: {problem}"
    try:
        store.check(entry)
    except MediaError as error:
        return str(error)
    return None
