"""What follows a camera to another worker when the number of devices changes.

Changes that were made over HTTP and the sequence numbers of events lie in files of the worker that
had the camera. They are brought to its new worker before any worker starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import ConfigError, is_file, write_file
from configs.private_files import PRIVATE_FILE
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.local.dealing import Worker, owner_of, path_of_worker
from stream.sinks.config import KAFKA

__all__ = ["move_state"]

_log = logging.getLogger(__name__)
_MAX_WORKERS = 256  # files of workers with higher numbers are not looked for


def move_state(workers: Sequence[Worker], outbox: Path, changes: Path | None) -> None:
    """Bring changes and sequence numbers to the workers that have the cameras now.

    Events that wait in the outbox of a worker that no longer runs are reported.

    Args:
        outbox: path of the outbox without a worker's name.
        changes: the setting `http.changes`.

    Raises:
        ConfigError: a file of changes cannot be read or written.
        OutboxError: an outbox cannot be opened, or another process uses it.
    """
    _move_changes(workers, outbox, changes)
    _move_sequences(workers, outbox)


def _move_sequences(workers: Sequence[Worker], path: Path) -> None:
    with contextlib.ExitStack() as stack:

        def opened(file: Path) -> Outbox:
            box = Outbox(OutboxConfig(path=file))
            stack.callback(box.close)
            return box

        boxes = {index: opened(file) for index, file in _existing(path).items()}
        wanted: dict[int, dict[str, int]] = {}
        for index, box in boxes.items():
            owners = {camera: owner_of(camera, len(workers)) for camera in box.sequences()}
            if any(owner != index for owner in owners.values()):
                box.close_open_events()  # they get the numbers before those of the new worker
            for camera, sequence in box.sequences().items():
                numbers = wanted.setdefault(owners[camera], {})
                numbers[camera] = max(sequence, numbers.get(camera, 0))
            if index >= len(workers):
                _report_left(box, path_of_worker(path, index))
        for index, numbers in wanted.items():
            known = boxes[index].sequences() if index in boxes else {}
            later = {each: n for each, n in numbers.items() if n > known.get(each, 0)}
            if later:
                box = boxes.get(index) or opened(path_of_worker(path, index))
                box.continue_sequences(later)


def _report_left(box: Outbox, file: Path) -> None:
    """Say which events of a worker that no longer runs were not sent."""
    if count := box.waiting(KAFKA):
        _log.warning(
            "outbox %s of a worker that no longer runs has %d events; send them with:"
            " cidc-stream outbox drain %s --config FILE",
            file,
            count,
            file,
        )
    if count := len(box) - box.waiting(KAFKA):
        _log.warning(
            "outbox %s of a worker that no longer runs has %d events that wait for other sinks;"
            " run with as many devices as before to deliver them",
            file,
            count,
        )


def _move_changes(workers: Sequence[Worker], outbox: Path, changes: Path | None) -> None:
    files = {
        index: _changes_file(index, outbox, changes)
        for index in range(_MAX_WORKERS)
        if is_file(_changes_file(index, outbox, changes))
    }
    trees = {index: _read(file) for index, file in files.items()}
    dealt: dict[int, dict[str, Any]] = {index: {"cameras": {}, "paused": []} for index in files}
    # The owner's own file comes last: what it says is the newest.
    for index, tree in sorted(trees.items(), key=lambda item: item[0], reverse=True):
        for camera, fields in tree["cameras"].items():
            owner = owner_of(camera, len(workers))
            cameras = dealt.setdefault(owner, {"cameras": {}, "paused": []})["cameras"]
            if owner == index or camera not in cameras:
                cameras[camera] = fields
        for camera in tree["paused"]:
            owner = owner_of(camera, len(workers))
            paused = dealt.setdefault(owner, {"cameras": {}, "paused": []})["paused"]
            if camera not in paused:
                paused.append(camera)
    changed = {index: tree for index, tree in dealt.items() if tree != trees.get(index)}
    # First what is added, then what is removed: a change is lost at no moment.
    for index, tree in changed.items():
        _write(_changes_file(index, outbox, changes), _union(trees.get(index), tree))
    for index, tree in changed.items():
        _write(_changes_file(index, outbox, changes), tree)


def _union(before: dict[str, Any] | None, tree: dict[str, Any]) -> dict[str, Any]:
    if before is None:
        return tree
    paused = [*tree["paused"], *(each for each in before["paused"] if each not in tree["paused"])]
    return {"cameras": {**before["cameras"], **tree["cameras"]}, "paused": paused}


def _changes_file(index: int, outbox: Path, changes: Path | None) -> Path:
    if changes is not None:
        return path_of_worker(changes, index)
    beside = path_of_worker(outbox, index)
    return beside.with_name(f"{beside.name}.cameras.json")


def _existing(path: Path) -> dict[int, Path]:
    found = {index: path_of_worker(path, index) for index in range(_MAX_WORKERS)}
    return {index: file for index, file in found.items() if is_file(file)}


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return {"cameras": dict(tree["cameras"]), "paused": list(tree["paused"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"http.changes: {file} cannot be read ({type(error).__name__}); repair it, or delete it"
            " to undo all changes"
        ) from None


def _write(file: Path, tree: dict[str, Any]) -> None:
    try:
        write_file(file, json.dumps(tree, indent=2), mode=PRIVATE_FILE, durable=True)
    except OSError as error:
        raise ConfigError(
            f"changes of cameras cannot be kept in {file}: {error.strerror}; set http.changes to a"
            " file that can be written"
        ) from None
