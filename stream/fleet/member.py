"""A member of a group, in a thread that is almost always inside the client's `poll`.

kafka-python 3.0 keeps the answer to a request to join only while somebody waits for it in `poll`.
An answer that comes between two calls is lost: the client joins again, and the group shares out
once more. A thread that has other work between short calls can so lose one answer after the other,
and its group never comes to rest.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from stream.events.config import KafkaConfig
from stream.events.kafka import connect_member, kafka, last_heartbeat
from stream.stage import Stage

__all__ = ["Member"]

_POLL_MS = 1_000
_CLOSE_MS = 1_000
_PAUSE_SECONDS = 1.0
_STABLE = "<stable>"


class Member(Stage):
    """Keeps one membership alive; tells at any time which partitions it has. It reads no records.

    Args:
        group: name of the group.
        session_seconds: after this long without a sign of life the group drops the member.
        instance: name of a member that keeps its partitions while it restarts; None: it has none.

    Raises:
        BrokerError: the settings cannot be used.
    """

    def __init__(
        self, config: KafkaConfig, *, group: str, session_seconds: float, instance: str | None
    ) -> None:
        super().__init__("group")
        self._topic = config.topic
        self._consumer = connect_member(
            config,
            group=group,
            session_seconds=session_seconds,
            instance=instance,
            listener=_Listener(self),
        )
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._partitions: set[int] = set()
        self._error: Exception | None = None
        self._has_topic = True

    def run(self) -> None:
        """Work until `stop`; then leave the group."""
        try:
            while not self.stopping.is_set():
                self.beat()
                self._poll()
        finally:
            with contextlib.suppress(kafka.errors.KafkaError, OSError):
                self._consumer.close(timeout_ms=_CLOSE_MS)

    def assigned(self, wait_seconds: float) -> set[int]:
        """Return the partitions of this member, after a change or a while. Any thread may ask.

        Raises:
            Exception: what the last call of the client raised, until one succeeds.
        """
        self._changed.wait(wait_seconds)
        self._changed.clear()
        if self.failure is not None:
            raise self.failure
        with self._lock:
            if self._error is not None:
                raise self._error
            return set(self._partitions)

    @property
    def is_stable(self) -> bool:
        """Whether the group has shared its partitions out, as far as this member knows."""
        return bool(self._consumer.group_metadata().state == _STABLE)

    @property
    def has_topic(self) -> bool:
        """Whether the topic had partitions when a member without any looked last."""
        return self._has_topic

    @property
    def heard_monotonic(self) -> float:
        """When the group last answered a heartbeat, by the monotonic clock; -inf: never."""
        return last_heartbeat(self._consumer)

    def _poll(self) -> None:
        try:
            self._consumer.poll(timeout_ms=_POLL_MS)
            assigned = self._consumer.assignment()
            if fresh := assigned - self._consumer.paused():
                self._consumer.pause(*fresh)
            if not assigned:
                self._has_topic = bool(self._consumer.partitions_for_topic(self._topic))
            self._note({each.partition for each in assigned}, None)
        except Exception as error:  # whoever asks for the partitions gets it
            self._note(None, error)
            self.stopping.wait(_PAUSE_SECONDS)

    def _note(self, partitions: set[int] | None, error: Exception | None) -> None:
        with self._lock:
            self._error = error
            if partitions is None or partitions == self._partitions:
                return
            self._partitions = partitions
        self._changed.set()

    def gained(self, partitions: set[int]) -> None:
        """Note that the group gave these; the client's thread calls it inside `poll`."""
        with self._lock:
            self._partitions |= partitions
        self._changed.set()

    def lost(self, partitions: set[int]) -> None:
        """Note that the group took these away; the client's thread calls it inside `poll`."""
        with self._lock:
            self._partitions -= partitions
        self._changed.set()


class _Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, member: Member) -> None:
        self._member = member

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._member.gained({each.partition for each in assigned})

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._member.lost({each.partition for each in revoked})
