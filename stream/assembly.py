"""Makes each part of the pipeline from the configuration; `stream/pipeline.py` connects them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from model.checkpoints.weights import ModelSpec
from model.device_streams import DeviceStream
from model.media.preprocess import Preprocessor
from model.staging import host_upload
from stream.analysis.backlog import Backlog
from stream.analysis.clip_stage import ClipStage
from stream.analysis.inbox import Inbox
from stream.analysis.recogniser import Recogniser
from stream.analysis.ring import ClipRing
from stream.cameras.manager import CameraManager
from stream.config import StreamConfig, max_views
from stream.disk_watch import DiskWatch
from stream.events.announcer import Announcer, BeginTrace, Subscriber
from stream.events.event_pictures import EventPictures
from stream.events.outbox import Outbox
from stream.events.second_looks import SecondLooks
from stream.events.sink_registry import OutboxSink
from stream.events.snapshots import SnapshotStore
from stream.fleet.topic_cameras import TopicCameras
from stream.ingest.decoder_pool import DecoderPool
from stream.load import LoadMeter
from stream.metrics import Metrics
from stream.serve.health import health_report
from stream.serve.server import HttpServer
from stream.stage import Stage, close_quietly
from stream.types import CameraSnapshot

__all__ = [
    "build_announcer",
    "build_clip_stage",
    "build_load_meter",
    "build_ring",
    "open_http",
    "open_outbox",
    "open_snapshots",
]


def open_outbox(
    config: StreamConfig,
    metrics: Metrics,
    stack: contextlib.ExitStack,
    sinks: Sequence[OutboxSink],
) -> Outbox:
    """The event store, which the stack closes; from now on its disk is watched.

    Args:
        sinks: those that get events; what waits for others is given up.

    Raises:
        OutboxError: it cannot be opened or written.
    """
    outbox = Outbox(
        config.outbox,
        lambda kind: metrics.outbox_dropped.labels(kind).inc(),
        metrics.outbox_damaged.inc,
        on_lost=lambda sink, kind: metrics.sinks.lost.labels(sink, kind).inc(),
        sinks=sinks,
    )
    stack.callback(close_quietly, outbox.close)
    folders = {"outbox": config.outbox.path.parent}
    if config.snapshots.enabled:
        folders["snapshots"] = config.snapshots.path
    DiskWatch.on(folders, metrics, stack)
    return outbox


def build_load_meter(
    metrics: Metrics, stages: Sequence[Stage], pool: DecoderPool | None
) -> LoadMeter:
    """The measure of how much of its capacity the pipeline uses.

    Args:
        stages: DALI's thread, the analysis and the inference.
        pool: NVDEC's threads; None: they do not decode.
    """
    dali, analysis, network = (stage.busy_seconds for stage in stages)
    decoder = dali if pool is None else lambda: max(dali(), pool.busy_seconds())
    return LoadMeter(metrics, {"network": network, "analysis": analysis, "decoder": decoder})


def open_snapshots(
    config: StreamConfig, metrics: Metrics, stack: contextlib.ExitStack
) -> SnapshotStore | None:
    """The store of pictures, which the stack closes; None if none are kept.

    Raises:
        ConfigError: its folder cannot be written.
    """
    if not config.snapshots.enabled:
        return None
    store = SnapshotStore(
        config.snapshots,
        on_written=metrics.snapshots.labels("written").inc,
        on_lost=metrics.snapshots.labels("lost").inc,
        on_deleted=metrics.snapshots.labels("deleted").inc,
    )
    stack.callback(store.close)
    return store


def open_http(
    config: StreamConfig,
    *,
    metrics: Metrics,
    cameras: Callable[[], CameraManager | None],
    statuses: Callable[[], Sequence[CameraSnapshot]] = tuple,
    load: Callable[[], Mapping[str, float]] = dict,
    checks: Mapping[str, Callable[[], str | None]],
    topic: TopicCameras | None = None,
    worker: Callable[[], Mapping[str, Any] | None] = lambda: None,
    sinks: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
) -> HttpServer | None:
    """The server of metrics, health and cameras; None if there is none.

    Args:
        topic: takes the changes of cameras that live in a topic, from `Fleet.open_topic`.
        worker: describes this worker's share in them, for `/health`.
        sinks: describes each sink, for `/health`.

    Raises:
        ConfigError: its address cannot be listened on, or its token cannot be read.
    """
    if not config.http.enabled:
        return None
    pictures = (config.snapshots.path,) if config.snapshots.enabled else ()

    def report() -> Mapping[str, Any]:
        manager = cameras()
        not_taken = () if manager is None else manager.not_taken.cameras
        return health_report(
            checks,
            statuses(),
            load=load(),
            not_taken=not_taken,
            worker=worker(),
            sinks=sinks(),
        )

    return HttpServer(
        config.http,
        metrics=metrics.exposition,
        openmetrics=metrics.openmetrics,
        cameras=cameras,
        report=report,
        checks=checks,
        snapshots=pictures,
        topic=topic,
    )


def build_ring(config: StreamConfig, spec: ModelSpec, device: torch.device) -> ClipRing:
    """The clips of all views, on the device."""
    return ClipRing(
        max_views(config),
        height=spec.preprocess.height,
        width=spec.preprocess.width,
        frames=spec.model.frames,
        device=device,
    )


def build_clip_stage(
    config: StreamConfig,
    spec: ModelSpec,
    metrics: Metrics,
    recogniser: Recogniser,
    *,
    inbox: Inbox,
    backlog: Backlog,
    ring: ClipRing,
) -> ClipStage:
    """The stage from frames to batches of clips.

    Raises:
        ConfigError: the preprocessing or the page-locked memory that was asked for cannot be used.
    """
    preprocessor = Preprocessor(
        spec.preprocess,
        max_batch=config.batch.sizes(recogniser.device).frames_at_once,
        device="gpu" if recogniser.device.type == "cuda" else "cpu",
        upload=host_upload(
            config.infer.staging,
            recogniser.device,
            on_wait=metrics.staging_waits.inc,
            on_copy=lambda size: metrics.uploaded.labels("frames").inc(size),
        ),
    )
    return ClipStage(
        config.batch,
        stride=config.clip.hop,
        inbox=inbox,
        backlog=backlog,
        ring=ring,
        preprocessor=preprocessor,
        gather=recogniser.gather,
        metrics=metrics,
        stream=DeviceStream(recogniser.device),
        keeps_frames=config.snapshots.enabled,
    )


def build_announcer(
    config: StreamConfig,
    spec: ModelSpec,
    metrics: Metrics,
    recogniser: Recogniser,
    *,
    snapshots: SnapshotStore | None,
    worker: str | None,
    next_sequence: Callable[[str, int | None], int],
    subscribers: Sequence[Subscriber],
    looks: SecondLooks | None = None,
    begin_trace: BeginTrace | None = None,
) -> Announcer:
    """The part that makes events of results."""
    pictures = None
    if snapshots is not None:
        paint = recogniser.overlay if config.snapshots.activation else None
        pictures = EventPictures(snapshots, paint)
    return Announcer(
        spec,
        events=config.events,
        next_sequence=next_sequence,
        subscribers=subscribers,
        metrics=metrics,
        pictures=pictures,
        worker=worker,
        looks=looks,
        begin_trace=begin_trace,
    )
