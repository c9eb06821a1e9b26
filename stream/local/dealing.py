"""Which worker has which camera, and the configuration of each worker."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from configs import ConfigError
from stream.config import StreamConfig
from stream.load import usable_cores

__all__ = ["Worker", "deal", "owner_of", "parse_devices", "path_of_worker", "worker_of"]

_DEVICE = re.compile(r"cpu|cuda:\d{1,3}")


@dataclasses.dataclass(frozen=True)
class Worker:
    """One worker process: its name in metrics and files, its device and its configuration.

    Attributes:
        environment: variables that its process has beside those of this one.
        token: what requests to its HTTP interface must send.
    """

    name: str
    device: str
    config: StreamConfig
    environment: dict[str, str]
    token: str = dataclasses.field(repr=False)


def parse_devices(text: str) -> tuple[str, ...]:
    """Return the devices of `--devices`, such as `cuda:0,cuda:1` or `cpu,cpu`.

    Raises:
        ConfigError: one of them is not a device.
    """
    devices = tuple(part.strip().lower() for part in text.split(","))
    for device in devices:
        if not _DEVICE.fullmatch(device):
            raise ConfigError(
                f"--devices: {device!r} is not a device; give one for each worker, separated by"
                " commas: cpu or cuda:N, as in cuda:0,cuda:1"
            )
    return devices


def owner_of(camera_id: str, workers: int) -> int:
    """Return the index of the worker that has a camera, by rendezvous hashing.

    If a worker is added at the end, cameras move only to this worker.
    """

    def weight(index: int) -> bytes:
        return hashlib.blake2b(f"{index}/{camera_id}".encode(), digest_size=16).digest()

    return max(range(workers), key=weight)


def worker_of(index: int) -> str:
    """Return the name of a worker."""
    return str(index)


def path_of_worker(path: Path, index: int) -> Path:
    """Return the file of a worker beside the file of a single pipeline: `outbox-0.db`."""
    return path.with_name(f"{path.stem}-{worker_of(index)}{path.suffix}")


def deal(config: StreamConfig, devices: Sequence[str]) -> list[Worker]:
    """Deal the cameras of a configuration to workers, one per device.

    Raises:
        ConfigError: a GPU is not among those in CUDA_VISIBLE_DEVICES, or the cameras come from a
            topic, which deals them itself.
    """
    if config.cameras_from.topic is not None:
        raise ConfigError(
            f"--devices cannot be used with cameras_from.topic ({config.cameras_from.topic!r}):"
            " start one worker for each device by hand instead, with CUDA_VISIBLE_DEVICES and with"
            " its own outbox.path, snapshots.path and http.port; the group deals the cameras"
        )
    on_cpu = sum(device == "cpu" for device in devices)
    workers = []
    for index, device in enumerate(devices):
        token = secrets.token_urlsafe(24)
        cameras = tuple(
            camera for camera in config.cameras if owner_of(camera.id, len(devices)) == index
        )
        updates: dict[str, Any] = {
            "cameras": cameras,
            "infer": _infer(config, device, on_cpu),
            "outbox": _updated(config.outbox, path=path_of_worker(config.outbox.path, index)),
            "snapshots": _updated(
                config.snapshots,
                path=config.snapshots.path / f"worker-{worker_of(index)}",
                keep_megabytes=config.snapshots.keep_megabytes / len(devices),
            ),
            "http": _http(config, index, token),
        }
        made = config.model_copy(update=updates)
        workers.append(Worker(worker_of(index), device, made, _environment(device), token))
    return workers


def _updated(section: Any, **changes: Any) -> Any:
    return section.model_copy(update=changes)


def _infer(config: StreamConfig, device: str, on_cpu: int) -> Any:
    kind: Literal["cpu", "cuda"] = "cpu" if device == "cpu" else "cuda"
    threads = config.infer.threads
    if kind == "cpu" and on_cpu > 1 and not threads:
        threads = max(1, int(usable_cores() / on_cpu))  # they share the cores
    return _updated(config.infer, device=kind, threads=threads)


def _http(config: StreamConfig, index: int, token: str) -> Any:
    """Return settings by which only the process that starts the workers reaches this one."""
    changes = config.http.changes  # without it they lie beside the outbox of the worker
    return _updated(
        config.http,
        host="127.0.0.1",
        port=0,
        probe_port=None,
        token=SecretStr(token),
        token_file=None,
        hosts=(),
        changes=None if changes is None else path_of_worker(changes, index),
    )


def _environment(device: str) -> dict[str, str]:
    """Return the variable that shows a process only its GPU, which is number 0 there.

    Raises:
        ConfigError: this process does not see the GPU itself.
    """
    if device == "cpu":
        return {}
    number = int(device.partition(":")[2])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return {"CUDA_VISIBLE_DEVICES": str(number)}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if number >= len(names):
        raise ConfigError(
            f"--devices: {device} is not there: CUDA_VISIBLE_DEVICES names {len(names)} GPUs, which"
            " are numbered from 0 on"
        )
    return {"CUDA_VISIBLE_DEVICES": names[number]}
