"""Lists the videos below a folder, and counts what is left out."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from configs import readable
from model.media.image_sequence import MIN_IMAGES, numbered_images
from train.data.datasets.litter import ending_of, is_hidden, is_litter, is_video

__all__ = ["LeftOut", "identity", "is_present", "list_videos", "listed_folders"]

_SHOWN = 3


class LeftOut:
    """Counts and names what a listing leaves out."""

    def __init__(self) -> None:
        """Start with nothing left out."""
        self.endings: Counter[str] = Counter()
        self.hidden = 0
        self.litter: Counter[str] = Counter()
        self.named: dict[str, list[Path]] = {}

    def skips(self, entry: os.DirEntry[str]) -> bool:
        """Count a hidden name or litter and return True; return False for any other name."""
        if is_hidden(entry.name):
            self.hidden += 1
        elif is_litter(entry.name):
            # Files count by extension; of folders and of lock files, the name says more.
            if _is_folder(entry) or is_video(entry.name):
                self.litter[entry.name] += 1
            else:
                self.endings[ending_of(entry.name)] += 1
        else:
            return False
        return True

    def add(self, kind: str, path: Path) -> None:
        """Count a path under a kind, such as `broken links`; the message names the first ones."""
        self.named.setdefault(kind, []).append(path)

    def lines(self) -> list[str]:
        """Describe everything that was left out: one line of counts, then a line for each kind."""
        counts = []
        if self.endings:
            endings = sorted(self.endings.items(), key=lambda pair: (-pair[1], pair[0]))
            listed = ", ".join(
                f"{n} {readable(name) or 'without extension'}" for name, n in endings
            )
            counts.append(f"{_number(self.endings.total(), 'file')}: {listed}")
        if self.hidden:
            counts.append(f"hidden {self.hidden}")
        if self.litter:
            names = ", ".join(sorted(map(readable, self.litter)))
            counts.append(f"litter {self.litter.total()} ({names})")
        lines = [f"left out {'; '.join(counts)}"] if counts else []
        return lines + [_named_line(kind, paths) for kind, paths in self.named.items()]


def listed_folders(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the folders in a folder, sorted; count everything else in it as left out."""
    folders = []
    for entry in _scan(folder, left_out):
        path = folder / entry.name
        if left_out.skips(entry):
            continue
        if _is_folder(entry):
            folders.append(path)
        elif _is_broken(path):
            left_out.add("broken links left out", path)
        elif is_video(entry.name):
            left_out.add("videos outside of a class folder left out", path)
        else:
            left_out.endings[ending_of(entry.name)] += 1
    return folders


def list_videos(folder: Path, left_out: LeftOut, *, top: bool = True) -> list[Path]:
    """Return the video files and image sequences below a folder, sorted; follow links.

    Each file and folder is returned once, even if several links lead to it. The folder itself is
    not an image sequence if `top` is True.
    """
    # A link to a folder that contains this one leads back to the other classes.
    above = {*folder.absolute().parents, *folder.resolve().parents}
    seen = {identity(each) for each in above}
    videos = sorted(_walk(folder, left_out, seen, top=top))
    files = {path.parent / path.stem for path in videos if not path.is_dir()}
    found = []
    for path in videos:
        if path in files and path.is_dir():
            left_out.add("folders of images left out, beside a video of the same name", path)
        else:
            found.append(path)
    return found


def is_present(path: Path) -> bool:
    """Tell whether a path is a file, or a folder that holds at least one numbered image."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir():
            return bool(numbered_images(each.name for each in path.iterdir()))
        return path.is_file()
    return False


def _walk(folder: Path, left_out: LeftOut, seen: set[Hashable], *, top: bool) -> Iterator[Path]:
    if _was_seen(folder, seen):
        return
    folders: list[Path] = []
    files: list[Path] = []
    for entry in _scan(folder, left_out):
        if not left_out.skips(entry):
            (folders if _is_folder(entry) else files).append(folder / entry.name)
    images = numbered_images(path.name for path in files)
    if len(images) < MIN_IMAGES:
        images = []
    elif top:
        left_out.add("images left out, because each video of images needs its own folder", folder)
        images = []
    else:
        yield folder
    yield from _videos_among(files, set(images), left_out, seen)
    for each in folders:
        yield from _walk(each, left_out, seen, top=False)


def _videos_among(
    files: Sequence[Path], images: set[str], left_out: LeftOut, seen: set[Hashable]
) -> Iterator[Path]:
    for path in files:
        if _is_broken(path):
            left_out.add("broken links left out", path)
        elif path.name in images:
            continue
        elif not is_video(path.name) or not path.is_file():
            left_out.endings[ending_of(path.name)] += 1
        elif _was_seen(path, seen):
            left_out.add("further links to the same video left out", path)
        else:
            yield path


def _scan(folder: Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            # Real files and folders come first: of a folder and a link to it, the folder counts.
            return sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError:
        left_out.add("folders that cannot be read left out", folder)
        return []


def _was_seen(path: Path, seen: set[Hashable]) -> bool:
    """Tell whether another path led to the same file or folder; links may form loops."""
    key = identity(path)
    if key in seen:
        return True
    seen.add(key)
    return False


def identity(path: Path) -> Hashable:
    """Return what all links to one file or folder have in common.

    Raises:
        OSError: the path does not exist.
    """
    facts = path.stat()
    # Some network drives number no files.
    return (facts.st_dev, facts.st_ino) if facts.st_ino else str(path.resolve())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def _is_broken(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110 - no error in a loop


def _named_line(kind: str, paths: Sequence[Path]) -> str:
    more = ", ..." if len(paths) > _SHOWN else ""
    return f"{kind}: {len(paths)} ({', '.join(map(_shown, paths[:_SHOWN]))}{more})"


def _shown(path: Path) -> str:
    return readable(path).replace("\n", "\\n").replace("\r", "\\r")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
