"""What the command `cameras` does: `list`, `add`, `remove` and `import`."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from configs import ConfigError, check_tree, load_config, print_table, printable
from configs.overrides import apply_override
from stream.cameras.checks import SHARED_SECTIONS, with_shared_settings
from stream.cameras.config import CameraConfig, plain_secrets, redact_url
from stream.events.config import KafkaConfig
from stream.events_command import EventSections
from stream.fleet.config import DEFAULT_TOPIC, CamerasFrom, broker_of_cameras
from stream.fleet.import_file import prepare_cameras, read_cameras
from stream.fleet.records import CameraRecord, Unreadable
from stream.fleet.registry import read_table
from stream.fleet.secrets import SecretFiles, secret_names
from stream.fleet.table import CameraTable
from stream.fleet.topic import find_compacted_topic
from stream.fleet.topic_cameras import CameraChange, TopicCameras

__all__ = ["ACTIONS"]

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 10.0
_COLUMNS = ("camera", "address", "secrets", "partition", "worker", "other settings")


class _CameraSections(EventSections):
    """The sections of a configuration that lead to the topic; the others are not checked."""

    cameras_from: CamerasFrom = CamerasFrom()


class _Target(NamedTuple):
    """The topic to work on, and how its cameras are completed and checked."""

    broker: KafkaConfig
    complete: Callable[[Mapping[str, Any]], Any]
    check: Callable[[CameraConfig], None]


def _list(options: argparse.Namespace) -> int:
    target = _target(options, checks=False)
    table = read_table(target.broker, target.complete, timeout_seconds=_TIMEOUT_SECONDS)
    records: list[CameraRecord | Unreadable] = [*table.cameras.values(), *table.unreadable]
    records.sort(key=lambda record: record.camera_id)
    if options.json:
        print(json.dumps([_described(record, table) for record in records], indent=2))
    else:
        print_table(_COLUMNS, [_row(record, table) for record in records])
    return 0


def _add(options: argparse.Namespace) -> int:
    target = _target(options, checks=True)
    fields: dict[str, Any] = {"id": options.id, "url": options.url}
    for setting in options.set:
        apply_override(fields, setting, CameraConfig)
    if plain_secrets(options.url):
        _log.warning(
            "--url: other users see the secret in the list of processes; write it to a file of"
            " secrets, or use `import`"
        )
    [camera] = _prepared([fields], options, target)
    find_compacted_topic(target.broker)
    with _cameras(target) as cameras:
        if not options.replace:
            _report([cameras.add(camera)], options)
        else:
            _report([cameras.replace(camera["id"], camera)], options)
    return 0


def _remove(options: argparse.Namespace) -> int:
    with _cameras(_target(options, checks=False)) as cameras:
        _report([change.as_dict() for change in cameras.remove_all(options.id)], options)
    return 0


def _import(options: argparse.Namespace) -> int:
    target = _target(options, checks=True)
    prepared = _prepared(read_cameras(options.file), options, target)
    find_compacted_topic(target.broker)
    with _cameras(target) as cameras:
        changes = cameras.put_all(prepared)
    if options.json:
        _report([change.as_dict() for change in changes], options)
        return 0
    for change in changes:
        if change.change != "unchanged":
            print(printable(f"{change.change} {change.camera_id}"))
    print(_counts(changes))
    return 0


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "add": _add,
    "remove": _remove,
    "import": _import,
}


def _target(options: argparse.Namespace, *, checks: bool) -> _Target:
    """Return the topic that the options name, with its broker.

    Args:
        checks: whether cameras will be checked with the whole configuration and its weights.

    Raises:
        ConfigError: the options name no broker, or the configuration cannot be used.
    """
    sections = _CameraSections()
    if options.config is not None:
        sections = load_config(options.config, _CameraSections)
    given = sections.cameras_from.model_dump()
    given |= {"bootstrap": options.bootstrap} if options.bootstrap else {}
    given["topic"] = options.topic or given["topic"] or DEFAULT_TOPIC
    cameras_from = check_tree(given, CamerasFrom, name="cameras_from")
    broker = broker_of_cameras(cameras_from, sections.kafka)
    if not broker.bootstrap:
        raise ConfigError("give --bootstrap HOST:PORT, or a --config that names a broker")
    if broker.topic == sections.kafka.topic:
        raise ConfigError(
            f"the topic {broker.topic!r} is that of the events (kafka.topic); cameras need another"
        )
    if options.config is not None and checks:
        return _checking_target(options, broker)
    shared = {name: getattr(sections, name, None) for name in SHARED_SECTIONS}
    return _Target(broker, lambda fields: with_shared_settings(fields, shared), lambda camera: None)


def _checking_target(options: argparse.Namespace, broker: KafkaConfig) -> _Target:
    from model.checkpoints.weights import read_spec
    from stream.analysis.config import weights_path
    from stream.config import StreamConfig, camera_check, completed_camera

    config = load_config(options.config, StreamConfig)
    spec = read_spec(weights_path(config.infer))
    return _Target(broker, completed_camera(config), camera_check(config, spec))


def _prepared(
    cameras: list[dict[str, Any]], options: argparse.Namespace, target: _Target
) -> list[dict[str, Any]]:
    """Check cameras; with --secrets-to, write their secrets to files and refer to them."""
    moves = options.secrets_to is not None
    try:
        prepared, secrets = prepare_cameras(
            cameras, target.complete, target.check, moves_secrets=moves
        )
    except ConfigError as error:
        hint = "" if moves or "${secret:" not in str(error) else "; or give --secrets-to FOLDER"
        raise ConfigError(f"{error}{hint}") from None
    if secrets:
        SecretFiles(options.secrets_to).write(secrets)
    return prepared


@contextlib.contextmanager
def _cameras(target: _Target) -> Iterator[TopicCameras]:
    cameras = TopicCameras(
        target.broker,
        complete=target.complete,
        check=target.check,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    with contextlib.closing(cameras):
        yield cameras


def _report(changes: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(list(changes), indent=2))
        return
    for change in changes:
        print(printable(f"{change['change']} {change['id']}: {change['detail']}"))


def _counts(changes: Sequence[CameraChange]) -> str:
    kinds = [change.change for change in changes]
    return ", ".join(f"{kind} {kinds.count(kind)}" for kind in ("added", "changed", "unchanged"))


def _described(record: CameraRecord | Unreadable, table: CameraTable) -> dict[str, Any]:
    """Return a camera as plain values, without secrets."""
    place = {
        "partition": record.place.partition,
        "offset": record.place.offset,
        "worker": _worker(record, table),
    }
    if isinstance(record, Unreadable):
        return {"id": record.camera_id, "error": record.reason} | place
    return {
        **_settings(record),
        "url": redact_url(record.camera.url),
        "secrets": list(secret_names(record.camera.url)),
        **place,
    }


def _row(record: CameraRecord | Unreadable, table: CameraTable) -> tuple[str, ...]:
    place = (str(record.place.partition), _worker(record, table) or "")
    if isinstance(record, Unreadable):
        return (record.camera_id, f"cannot be read: {record.reason}", "", *place, "")
    settings = {name: value for name, value in _settings(record).items() if name != "id"}
    return (
        record.camera_id,
        redact_url(record.camera.url),
        ", ".join(secret_names(record.camera.url)),
        *place,
        json.dumps(settings, ensure_ascii=False) if settings else "",
    )


def _settings(record: CameraRecord) -> dict[str, Any]:
    """Return the settings of a camera's record that this release knows, but not its address."""
    known = record.camera.model_dump(mode="json", exclude={"url"})
    return {name: known[name] for name in record.fields if name in known}


def _worker(record: CameraRecord | Unreadable, table: CameraTable) -> str | None:
    claim = table.claims.get(record.place.partition)
    return None if claim is None else claim.worker
