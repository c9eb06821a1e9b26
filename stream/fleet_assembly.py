"""Makes the parts of a worker that shares its cameras with others; nothing without a topic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from configs import BrokerError
from model.checkpoints.weights import ModelSpec
from stream.cameras.manager import CameraManager
from stream.cameras.shared_manager import SharedCameraManager
from stream.config import StreamConfig, camera_check, completed_camera
from stream.events.announcer import Announcement
from stream.events.counter import EventCounter
from stream.events.event import ActionEvent
from stream.events.event_store import EventStore
from stream.events.kafka import kafka, partition_of_key
from stream.events.writer import EventWriter
from stream.fleet.cameras import WorkerCameras
from stream.fleet.claims import ClaimWatch
from stream.fleet.config import broker_of_cameras, worker_name
from stream.fleet.group import Group
from stream.fleet.holdings import Holdings
from stream.fleet.membership import Membership
from stream.fleet.open_events import OpenEvents
from stream.fleet.open_log import OpenLogWriter
from stream.fleet.partitions import Phase
from stream.fleet.records import Place, Record, decode_record
from stream.fleet.secrets import SecretFiles
from stream.fleet.takeover import OpenActionsTakeover
from stream.fleet.topic import find_compacted_topic
from stream.fleet.topic_cameras import TopicCameras
from stream.health import HANGS_SECONDS
from stream.metrics import Metrics

__all__ = ["Fleet"]

_LEAVE_SECONDS = 8.0


class Fleet:
    """This worker's share in the cameras of a topic; without `cameras_from.topic` it does nothing.

    Args:
        worker: name of this worker where cameras do not come from a topic.

    Attributes:
        worker: name of this worker, for its events; None if it is the only one.
    """

    def __init__(self, config: StreamConfig, metrics: Metrics, worker: str | None = None) -> None:
        self._config = config
        self._settings = config.cameras_from
        self._metrics = metrics
        self._is_on = self._settings.topic is not None
        self._broker = broker_of_cameras(self._settings, config.kafka)
        self._membership: Membership | None = None
        self._partitions = 0
        self.worker = worker_name(self._settings, config.outbox.path) if self._is_on else worker
        if self._is_on:
            self._open_log = OpenLogWriter(config.kafka, self._settings.open_events_topic)
            self._claims = ClaimWatch(self._broker)

    def open_topic(self, spec: ModelSpec) -> TopicCameras | None:
        """What writes changes over HTTP to the topic of the cameras; None without a topic."""
        if not self._is_on:
            return None
        assert self.worker is not None
        return TopicCameras(
            self._broker,
            complete=completed_camera(self._config),
            check=camera_check(self._config, spec),
            worker=self.worker,
        )

    def events_to_publish(self, outbox: EventStore, stack: contextlib.ExitStack) -> EventStore:
        """Return the outbox as the publisher is to see it; the stack closes what that needs."""
        if not self._is_on:
            return outbox
        stack.callback(self._close)
        self._open_events = OpenEvents(
            outbox,
            self._config.kafka,
            self._open_log,
            self._claims,
            partition_of=self._partition_of,
            on_superseded=self._metrics.fleet_superseded.inc,
            on_late_answer=self._metrics.verify.failures.labels("camera_gone").inc,
        )
        return self._open_events

    def start(
        self,
        manager: CameraManager,
        writer: EventWriter,
        counter: EventCounter,
        load: Callable[[], float],
    ) -> None:
        """Join the group; the cameras come when it gives this worker partitions.

        Args:
            manager: runs the cameras.
            writer, counter: take events that end what other workers left open.
            load: tells the fraction of the capacity in use.
        """
        if not self._is_on:
            return
        assert isinstance(manager, SharedCameraManager)
        assert self.worker is not None
        secrets = SecretFiles(self._settings.secrets_dir)
        self._cameras = WorkerCameras(
            manager,
            manager.not_taken,
            secrets.resolve,
            load=load,
            max_load=self._settings.max_load,
        )
        group = Group(
            self._broker,
            group=self._settings.group,
            worker=self.worker,
            session_seconds=self._settings.session_seconds,
            instance=self.worker if self._settings.static_membership else None,
            find_topics=self._find_topics,
        )
        takeover = None
        if self._config.kafka.bootstrap:
            takeover = OpenActionsTakeover(
                self._config.kafka,
                self._open_log,
                worker=self.worker,
                next_sequence=writer.next_sequence,
                resend=self._open_events.resend,
                announce=lambda events: _announce(events, writer, counter),
            )
        self._holdings = Holdings(
            group,
            self._cameras,
            self._metrics,
            session_seconds=self._settings.session_seconds,
            decode=self._decode,
            takeover=takeover,
            min_partitions=self._settings.min_partitions_per_worker,
        )
        self._membership = Membership(
            group,
            self._holdings,
            session_seconds=self._settings.session_seconds,
            redact=self._broker.redact,
        )
        self._membership.start()

    def tick(self) -> None:
        """Stop cameras that another worker may run by now; call this several times a second."""
        if self._membership is not None:
            self._holdings.expire()

    def stop(self) -> None:
        """Leave the group; call this when the cameras have stopped."""
        if self._membership is not None:
            self._membership.stop()
            self._membership.join(_LEAVE_SECONDS)

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        if self._membership is None:
            return
        phases = self._holdings.phases()
        for phase in Phase:
            self._metrics.fleet_partitions.labels(phase.value).set(phases.get(phase, 0))
        self._metrics.fleet_epoch.clear()
        for partition, epoch in self._holdings.epochs().items():
            self._metrics.fleet_epoch.labels(str(partition)).set(epoch)
        self._metrics.fleet_contact_age.set(self._holdings.contact_age())

    def report(self) -> dict[str, Any] | None:
        """Describe this worker's share, for `/health` and the summary; None without a topic."""
        if self._membership is None:
            return None
        return {
            "worker": self.worker,
            "problem": self._problem(),
            "partitions": dict(self._holdings.phases()),
            "epochs": {str(number): epoch for number, epoch in self._holdings.epochs().items()},
            "unreadable": [str(bad) for bad in self._holdings.unreadable()],
        }

    def _close(self) -> None:
        with contextlib.suppress(kafka.errors.KafkaError, OSError):
            self._open_log.start_over()
            self._claims.close()

    def _problem(self) -> str | None:
        assert self._membership is not None
        silent = self._membership.silent_seconds
        if self._membership.is_alive and silent > HANGS_SECONDS:
            return f"the thread {self._membership.name} has not moved for {silent:.0f} s"
        return self._membership.problem

    def _find_topics(self) -> str | None:
        """Find or create both topics; returns what is wrong, in one line."""
        try:
            partitions = find_compacted_topic(self._broker)
            self._metrics.fleet_topic_partitions.set(partitions)
            if self._config.kafka.bootstrap:
                open_events = self._config.kafka.model_copy(
                    update={
                        "topic": self._settings.open_events_topic,
                        "partitions": partitions,
                        "replication": self._settings.replication,
                    }
                )
                setting = "cameras_from.open_events_topic"
                find_compacted_topic(open_events, setting=setting)
        except BrokerError as error:
            return str(error)
        return None

    def _decode(self, record: Any) -> Record:
        place = Place(record.partition, record.offset, record.timestamp)
        return decode_record(record.key, record.value, place, completed_camera(self._config))

    def _partition_of(self, camera_id: str) -> int:
        """The partition of a camera: where its record was, or where its key belongs."""
        known = self._cameras.partition_of(camera_id) if self._membership is not None else None
        if known is not None:
            return known
        if not self._partitions:
            self._partitions = self._claims.partitions()
        return partition_of_key(camera_id.encode(), self._partitions)


def _announce(events: Sequence[ActionEvent], writer: EventWriter, counter: EventCounter) -> None:
    writer.put(events)
    counter.take(Announcement(tuple(events)))
