"""Every metric of the live pipeline, named once, here.

Each pipeline has its own registry, so two pipelines in one process never share a count.
"""

from __future__ import annotations

from typing import get_args

from prometheus_client import Histogram

from stream.metric_registry import MetricRegistry
from stream.old_metric_names import OldMetricNames
from stream.sink_metrics import SinkMetrics
from stream.types import CameraState
from stream.verify_metrics import VerifyMetrics
from stream.worker_metrics import WorkerMetrics

__all__ = ["Metrics"]

_CLIPS = (1, 2, 4, 8, 16, 32, 64)
_RUNS = ("engine", "size")
# Labels that counters have from the start: Prometheus does not see the first increase of others.
_KINDS = ("started", "updated", "ended", "verified")
_SPAN_DROPS = ("queue_full", "refused", "failed", "shutdown")
_STOPS = ("moved", "failed", "cut", "fenced")


class Metrics(MetricRegistry):
    """The metrics of one pipeline, as attributes. Methods may be called from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._add_cameras()
        self._add_analysis()
        self._add_events()
        self._add_fleet()
        self.worker = WorkerMetrics(self.registry)
        self.sinks = SinkMetrics(self.registry)
        self.verify = VerifyMetrics(self.registry)
        self.registry.register(
            OldMetricNames(
                {
                    "cidc_windows": [self.clips],
                    "cidc_dropped": [
                        self.dropped_packets,
                        self.dropped_frames,
                        self.dropped_clips,
                    ],
                    "cidc_batch_windows": [self.batch_clips],
                }
            )
        )

    def _add_cameras(self) -> None:
        self.camera_state = self._camera_gauge(
            "camera_state", "1 for the state a camera is in", "state"
        )
        self.camera_fps = self._camera_gauge(
            "camera_fps", "Decoded frames per second over the last seconds"
        )
        self.last_frame = self._camera_gauge(
            "camera_last_frame_timestamp_seconds", "When the last frame arrived, since 1970"
        )
        self.last_frame_age = self._camera_gauge(
            "camera_last_frame_age_seconds", "How long ago the last frame arrived"
        )
        self.camera_blind = self._camera_gauge(
            "camera_blind", "1 while a camera runs and gives no clips, by reason", "reason"
        )
        self.software_decoding = self._camera_gauge(
            "software_decoding",
            "1 while a camera that NVDEC or DALI should decode is decoded in software, by reason",
            "reason",
        )
        self.paused = self._camera_gauge("camera_paused", "1 while a camera is paused over HTTP")
        self.decoded = self._camera_counter("frames_decoded", "Frames decoded")
        self.gops = self._camera_counter(
            "gops_decoded", "Groups of pictures decoded by DALI, or instead in software", "decoder"
        )
        self.sampled = self._camera_counter("frames_sampled", "Positions of the time grid filled")
        self.repeated = self._camera_counter(
            "frames_repeated", "Positions filled with the previous frame, for lack of a new one"
        )
        self.corrupt = self._camera_counter(
            "packets_undecodable", "Packets that gave an error instead of a frame, and bad frames"
        )
        self.blocked = self._camera_counter(
            "camera_blocked_seconds", "Seconds a camera waited for the analysis"
        )
        self.resets = self._camera_counter(
            "resets", "Times a camera's clip was restarted, by reason", "reason"
        )
        self.reconnects = self._camera_counter("reconnects", "Attempts to reopen a camera")
        self.readers_abandoned = self._gauge(
            "readers_abandoned",
            "Camera workers that hang in library calls and were replaced or halted",
        )
        self.dropped_packets = self._camera_counter(
            "dropped_packets", "Packets not decoded, by reason", "reason"
        )
        self.dropped_frames = self._camera_counter(
            "dropped_frames", "Decoded frames not analysed, by reason", "reason"
        )
        self.decoder_fallbacks = self._counter(
            "decoder_fallbacks",
            "Cameras that software took over from NVDEC or DALI, by reason",
            "reason",
        )
        self.decoder_retries = self._counter(
            "decoder_retries", "Times NVDEC was tried again for a camera that it had given up"
        )
        self.open_decoders = self._gauge("open_decoders", "Decoders on the GPU, by kind", "kind")
        self.uploaded = self._counter(
            "uploaded_bytes", "Bytes copied to the GPU, as packets or as frames", "kind"
        )
        self.decoder_threads_abandoned = self._gauge(
            "decoder_threads_abandoned", "Threads that hang in the driver and were replaced"
        )

    def _add_analysis(self) -> None:
        self.clips = self._camera_counter("clips", "Clips analysed")
        self.dropped_clips = self._camera_counter(
            "dropped_clips", "Clips that were due and not analysed, by reason", "reason"
        )
        self.batch_clips = Histogram(
            "cidc_batch_clips", "Clips per batch", registry=self.registry, buckets=_CLIPS
        )
        self.network_batches = self._counter(
            "network_batches", "Batches, by engine and by number of clips with padding", *_RUNS
        )
        self.padded_clips = self._counter("network_padded_clips", "Clips added as padding")
        self.stage = self._histogram(
            "stage_seconds", "Time spent in each stage on one packet, frame or batch", "stage"
        )
        self.latency = self._histogram(
            "camera_to_event_seconds",
            "From the arrival of a clip's newest frame to its result, stored if it is an event",
        )
        self.views = self._gauge("views", "Slots of the ring in use: cameras or their regions")
        self.device_memory = self._gauge(
            "device_memory_bytes", "GPU memory that PyTorch holds; 0 without a GPU"
        )
        self.gpu_use = self._gauge(
            "gpu_utilization_ratio", "How busy a part of the GPU is, from 0 to 1", "unit"
        )
        self.gpu_memory = self._gauge(
            "gpu_memory_bytes", "Memory of the GPU: used, total, or used by this process", "kind"
        )
        self.runtime = self._gauge(
            "runtime",
            "Always 1; the labels say what the pipeline runs on, and why not on something else",
            "device",
            "engine",
            "dtype",
            "model",
            "preprocess",
            "mixing",
            "mixing_reason",
            "staging",
            "staging_reason",
        )
        self.staging_waits = self._counter(
            "staging_waits", "Copies to the GPU that waited for a page-locked buffer"
        )

    def _add_events(self) -> None:
        self.events = self._camera_counter(
            "events", "Action events by action and kind", "action", "kind"
        )
        self.last_event = self._camera_gauge(
            "camera_last_event_timestamp_seconds",
            "When the newest event of a camera was made, since 1970",
        )
        self.outbox_events = self._gauge("outbox_events", "Events in the outbox, each counted once")
        self.outbox_dropped = self._counter(
            "outbox_dropped",
            "Events dropped because too many waited for Kafka or were kept, by kind",
            "kind",
        )
        for kind in _KINDS:
            self.outbox_dropped.labels(kind)
        self.outbox_age = self._gauge(
            "outbox_oldest_seconds",
            "Age of the oldest event that waits for Kafka; without Kafka, of the oldest of all",
        )
        self.outbox_unsaved = self._gauge(
            "outbox_unsaved", "Events that wait in memory because the outbox cannot be written"
        )
        self.outbox_failures = self._counter(
            "outbox_failures", "Failed attempts to write the outbox"
        )
        self.outbox_damaged = self._counter(
            "outbox_damaged", "Times a damaged outbox was moved to another name"
        )
        self.outbox_rejected = self._counter(
            "outbox_rejected", "Events that Kafka does not take, kept as dead letters"
        )
        self.snapshots = self._counter(
            "snapshots",
            "Pictures of events: written, lost, or deleted because the disk is almost full",
            "outcome",
        )
        self.disk_free = self._gauge(
            "disk_free_bytes", "Room that is left on the disk of a folder of the run", "folder"
        )
        self.disk_size = self._gauge(
            "disk_size_bytes", "Size of the disk of a folder of the run", "folder"
        )
        self.broker_configured = self._gauge(
            "broker_configured", "1 if events are sent to Kafka, 0 if they are not"
        )
        self.published = self._counter("published", "Events that the broker acknowledged")
        self.publish_failures = self._counter(
            "publish_failures", "Failures to publish, by error", "error"
        )

        self.trace_spans_dropped = self._counter(
            "trace_spans_dropped", "Spans that did not reach the collector, by reason", "reason"
        )
        for reason in _SPAN_DROPS:
            self.trace_spans_dropped.labels(reason)

    def _add_fleet(self) -> None:
        """Cameras that workers share; all zero or absent without `cameras_from.topic`."""
        self.fleet_partitions = self._gauge(
            "fleet_partitions",
            "Partitions of the topic of cameras, by what this worker does",
            "phase",
        )
        self.fleet_topic_partitions = self._gauge(
            "fleet_topic_partitions", "Partitions that the topic of cameras has"
        )
        self.fleet_epoch = self._gauge(
            "fleet_epoch", "Epoch of each partition whose cameras this worker runs", "partition"
        )
        self.fleet_rebalances = self._counter(
            "fleet_rebalances", "Times this worker got or lost partitions"
        )
        self.fleet_stops = self._counter(
            "fleet_stops", "Times the cameras of a partition stopped here, by reason", "reason"
        )
        for reason in _STOPS:
            self.fleet_stops.labels(reason)
        self.fleet_unreadable = self._counter(
            "fleet_unreadable_records", "Records of cameras that cannot be used"
        )
        self.fleet_contact_age = self._gauge(
            "fleet_contact_age_seconds", "How long ago this worker last made sure of its partitions"
        )
        self.fleet_superseded = self._counter(
            "fleet_superseded_events", "Ends of actions that another worker had ended already"
        )

    def observe_latency(self, seconds: float, trace_id: str | None = None) -> None:
        """Count the latency of a clip; `trace_id` becomes the exemplar of its bucket."""
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        self.latency.observe(seconds, exemplar)

    def set_camera_state(self, camera_id: str, state: CameraState) -> None:
        """Mark one state of a camera as the current one."""
        for name in get_args(CameraState):
            self.camera_state.labels(camera_id, name).set(name == state)
