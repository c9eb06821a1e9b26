"""Change the cameras of the topic: for the command `cameras` and for the HTTP interface.

A change is written to the topic. The worker that owns the camera's partition then carries it out.
Two changes of one camera at the same time are not merged: the later one counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from configs import (
    BrokerError,
    CameraError,
    ConfigError,
    DataError,
    check_tree,
    merged,
    with_current_names,
)
from stream.cameras.config import CameraConfig
from stream.events.config import KafkaConfig
from stream.fleet.records import refuse_pushed
from stream.fleet.registry import CameraTopic, read_table
from stream.fleet.secrets import refuse_plain_address
from stream.fleet.table import CameraTable

__all__ = ["CameraChange", "TopicCameras", "checked_camera"]

ChangeKind = Literal["added", "changed", "unchanged", "removed"]


@dataclasses.dataclass(frozen=True)
class CameraChange:
    """What became of one camera in the topic."""

    camera_id: str
    change: ChangeKind
    topic: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values; `detail` says what happens next."""
        detail = {
            "added": f"written to the topic {self.topic!r}; one of the workers starts the camera",
            "changed": f"written to the topic {self.topic!r}; the worker of the camera restarts it",
            "unchanged": f"the topic {self.topic!r} has this camera already; nothing was written",
            "removed": f"removed from the topic {self.topic!r}; the worker of the camera stops it",
        }[self.change]
        return {"id": self.camera_id, "change": self.change, "detail": detail}


class TopicCameras:
    """The cameras of the topic. Methods may be called from any thread, one at a time.

    Args:
        config: the broker, and the topic of the cameras.
        complete: completes the settings of a camera by those of all cameras.
        check: raises a ConfigError for a camera that workers could not use.
        worker: name of this worker; empty for the command.
        timeout_seconds: the longest wait for the broker, when reading and when writing.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        complete: Callable[[Mapping[str, Any]], Any] = dict,
        check: Callable[[CameraConfig], None] = lambda camera: None,
        worker: str = "",
        timeout_seconds: float = 15.0,
    ) -> None:
        self.worker = worker
        self._config = config
        self._complete = complete
        self._check = check
        self._timeout_seconds = timeout_seconds
        self._topic = CameraTopic(config, timeout_seconds=timeout_seconds)
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the connection to the broker."""
        self._topic.close()

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add a camera; the same camera again changes nothing.

        Raises:
            CameraError: its settings are wrong, its address holds a secret, the topic has another
                camera of this name, or the broker cannot be reached.
        """
        camera = self._checked(fields)
        with self._lock:
            table = self._table()
            known = table.cameras.get(camera["id"])
            if known is not None and known.fields != camera:
                raise CameraError(
                    f"the topic has a camera {camera['id']!r} with other settings already; change"
                    " it, or choose another id",
                    "exists",
                )
            [change] = self._put([camera], table)
        return change.as_dict()

    def replace(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add a camera, or replace all its settings.

        Raises:
            CameraError: as for `add`; or the fields have another id.
        """
        camera = self._checked({"id": camera_id, **fields})
        _check_id(camera_id, camera["id"])
        with self._lock:
            [change] = self._put([camera], self._table())
        return change.as_dict()

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera; settings not named stay, at any depth.

        Raises:
            CameraError: as for `add`; or the topic has no such camera that can be read.
        """
        with self._lock:
            table = self._table()
            known = table.cameras.get(camera_id)
            if known is None:
                raise _unknown(camera_id, table, self._config.topic)
            with _as_camera_error():
                fields = with_current_names(fields, CameraConfig)
            _check_id(camera_id, fields.get("id", camera_id))
            [change] = self._put([self._checked(merged(known.fields, fields))], table)
        return change.as_dict()

    def remove(self, camera_id: str) -> dict[str, Any]:
        """Remove a camera, also one whose record cannot be read.

        Raises:
            CameraError: the topic has no such camera, or the broker cannot be reached.
        """
        return self.remove_all([camera_id])[0].as_dict()

    def remove_all(self, camera_ids: Sequence[str]) -> list[CameraChange]:
        """Remove some cameras, or none of them if one is unknown.

        Raises:
            CameraError: as for `remove`.
        """
        with self._lock:
            table = self._table()
            for camera_id in camera_ids:
                if camera_id not in table.places:
                    raise _unknown(camera_id, table, self._config.topic)
            with _as_camera_error():
                self._topic.remove(camera_ids, table)
        return [CameraChange(each, "removed", self._config.topic) for each in camera_ids]

    def put_all(self, cameras: Sequence[Mapping[str, Any]]) -> list[CameraChange]:
        """Add or replace many cameras, which `checked_camera` returned.

        Raises:
            CameraError: the broker cannot be reached; some cameras may be stored.
        """
        with self._lock:
            return self._put(cameras, self._table())

    def _put(self, cameras: Iterable[Mapping[str, Any]], table: CameraTable) -> list[CameraChange]:
        """Write what differs from the table."""
        changes, written = [], []
        for camera in cameras:
            known = table.cameras.get(camera["id"])
            kind: ChangeKind = "changed" if camera["id"] in table.places else "added"
            if known is not None and known.fields == camera:
                kind = "unchanged"
            else:
                written.append(camera)
            changes.append(CameraChange(camera["id"], kind, self._config.topic))
        if written:
            with _as_camera_error():
                self._topic.put(written, table)
        return changes

    def _checked(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        with _as_camera_error():
            return checked_camera(fields, self._complete, self._check)

    def _table(self) -> CameraTable:
        with _as_camera_error():
            return read_table(self._config, self._complete, timeout_seconds=self._timeout_seconds)


def checked_camera(
    fields: Mapping[str, Any],
    complete: Callable[[Mapping[str, Any]], Any] = dict,
    check: Callable[[CameraConfig], None] = lambda camera: None,
) -> dict[str, Any]:
    """Return the settings of a camera as they are written to the topic.

    They have current names, and are not completed: each worker has its own settings of all cameras.

    Raises:
        ConfigError: they cannot be used, or the address holds a secret.
    """
    current = dict(with_current_names(fields, CameraConfig))
    camera = check_tree(complete(current), CameraConfig, name="camera", strict=True)
    refuse_pushed(camera)
    refuse_plain_address(camera.id, camera.url)
    check(camera)
    return current | {"url": camera.url}


@contextlib.contextmanager
def _as_camera_error() -> Iterator[None]:
    """Inside the `with` block, errors of settings and of the broker become a `CameraError`."""
    try:
        yield
    except BrokerError as error:
        raise CameraError(str(error), "no_broker") from None
    except (ConfigError, DataError) as error:
        raise CameraError(str(error), "invalid") from None


def _check_id(camera_id: str, given: object) -> None:
    if given != camera_id:
        raise CameraError(
            f"a camera keeps its id; add {given!r} and remove {camera_id!r}", "invalid"
        )


def _unknown(camera_id: str, table: CameraTable, topic: str) -> CameraError:
    for record in table.unreadable:
        if record.camera_id == camera_id:
            return CameraError(
                f"the record of the camera {camera_id!r} cannot be read ({record.reason}); replace"
                " the camera, or remove it",
                "invalid",
            )
    return CameraError(f"the topic {topic!r} has no camera {camera_id!r}", "unknown")
