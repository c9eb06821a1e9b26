"""Checks what a run opens at its start, for `python -m stream check`."""

from __future__ import annotations

from collections.abc import Sequence

from model.media.dali_library import load_dali_graphs
from model.runtime import pick_device
from model.staging import host_upload
from stream.assembly import open_http
from stream.camera_assembly import check_decoders, nvdec_problem
from stream.cameras.config import CameraConfig
from stream.config import StreamConfig, overrides_path
from stream.events.outbox_lock import is_used
from stream.events.start_check import check_folder, check_outbox
from stream.file_locks import note_of_use
from stream.metrics import Metrics
from stream.sinks.assembly import make_deliveries

__all__ = ["check_start"]


def check_start(config: StreamConfig, cameras: Sequence[CameraConfig] | None = None) -> str | None:
    """Check what a run opens at its start, and leave everything as it is.

    Args:
        cameras: those to check instead of the configuration's.

    Returns:
        A note if another process uses a file of this run now, such as a running pipeline. If it
        uses the outbox, a port that is in use is fine.

    Raises:
        CidcError: a run with this configuration could not start.
    """
    load_dali_graphs()
    device = pick_device(config.infer.device)
    problem = nvdec_problem(device)
    check_decoders(config, config.cameras if cameras is None else cameras, problem)
    upload = host_upload(config.infer.staging, device)
    if upload is not None:
        upload.close()
    check_outbox(config.outbox.path)
    if config.snapshots.enabled:
        check_folder(config.snapshots.path, "snapshots.path")
    for _, delivery in make_deliveries(config):
        delivery.close()
    if (changes := overrides_path(config)) is not None:
        check_folder(changes.parent, "http.changes")
    if is_used(config.outbox.path):
        http = config.http.model_copy(update={"port": 0, "probe_port": None})
        config = config.model_copy(update={"http": http})
    nothing = {name: lambda: None for name in ("live", "ready", "startup")}
    server = open_http(config, metrics=Metrics(), cameras=lambda: None, checks=nothing)
    if server is not None:
        server.close()
    return note_of_use(config)
