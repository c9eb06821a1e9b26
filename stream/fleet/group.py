"""Kafka, as the thread of the cameras uses it: a member of the group, a reader, and claims.

The member has a thread of its own and reads no records: while a group shares its partitions out,
which takes many seconds with some brokers, kafka-python's consumer reads nothing. The reader has
no group, and goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from stream.events.config import KafkaConfig
from stream.events.kafka import connect_reader, kafka, silence_log
from stream.fleet.claims import Claims
from stream.fleet.member import Member

__all__ = ["Group"]

_POLL_MS = 50
_ANSWER_MS = 2_000
_WAIT_SECONDS = 0.05
_CLOSE_MS = 1_000
_LEAVE_SECONDS = 4.0


class Group:
    """One worker's connections to its group and to the topic of the cameras.

    Args:
        config: of the topic of cameras.
        instance: name of a member that keeps its partitions while it restarts; None: it has none.
        find_topics: finds or creates the topics; returns what is wrong, in one line, or None.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        group: str,
        worker: str,
        session_seconds: float,
        instance: str | None,
        find_topics: Callable[[], str | None],
    ) -> None:
        self._config = config
        self._member_settings: dict[str, Any] = {
            "group": group,
            "session_seconds": session_seconds,
            "instance": instance,
        }
        self._find_topics = find_topics
        self._claims = Claims(config, worker)
        self._member: Member | None = None
        self._reader: Any = None
        self._has_topics = False
        self._followed: set[int] = set()
        self._positions: dict[int, int] = {}

    def prepare(self) -> str | None:
        """Connect where that is needed; returns what is missing, in one line, or None."""
        if not self._has_topics:
            problem = self._find_topics()
            if problem is not None:
                return problem
            self._has_topics = True
        if self._member is None:
            silence_log()
            self._reader = connect_reader(self._config)
            self._member = Member(self._config, **self._member_settings)
            self._member.start()
        return None

    def assigned(self) -> set[int]:
        """Return the partitions that this worker has, after a change or a moment."""
        return self._joined.assigned(_WAIT_SECONDS)

    def why_idle(self) -> str | None:
        """Why this worker has no partitions; None if the group has given it none."""
        if not self._joined.is_stable:
            return f"joining the group {self._member_settings['group']} at {self._address}"
        if not self._joined.has_topic:
            self._has_topics = False
            return f"the topic {self._config.topic!r} of the cameras does not exist"
        return None

    @property
    def _joined(self) -> Member:
        assert self._member is not None  # `prepare` has made it
        return self._member

    @property
    def _address(self) -> str:
        return ", ".join(self._config.bootstrap)

    def follow(self, partitions: Collection[int], new: Collection[int]) -> None:
        """Read these partitions from now on, the new ones from their beginning."""
        self._followed = set(partitions)
        self._positions = {number: self._positions.get(number, 0) for number in partitions}
        self._positions |= dict.fromkeys(new, 0)
        if not partitions:
            self._reader.unsubscribe()
            return
        self._reader.assign([self._named(number) for number in sorted(partitions)])
        if new:
            self._reader.seek_to_beginning(*(self._named(number) for number in sorted(new)))

    def records(self) -> list[Any]:
        """Return the next records, those of a partition in order."""
        if not self._followed:
            return []
        batches = self._reader.poll(timeout_ms=_POLL_MS)
        return [record for batch in batches.values() for record in batch]

    def position(self, partition: int) -> int:
        """Return the offset of the next record to be read."""
        with contextlib.suppress(kafka.errors.KafkaError):
            position = self._reader.position(self._named(partition), timeout_ms=_POLL_MS)
            if position is not None:
                self._positions[partition] = position
        return self._positions[partition]

    def ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the offset after the last record of each.

        Raises:
            KafkaError: the brokers do not answer.
        """
        named = [self._named(number) for number in sorted(partitions)]
        ends = self._reader.end_offsets(named, timeout_ms=_ANSWER_MS)
        # Some brokers answer with an older end than they sent with the records.
        return {
            partition.partition: max(end, self._reader.highwater(partition) or 0)
            for partition, end in ends.items()
        }

    def claim(self, partition: int) -> Any:
        """Send a claim; its future gives the offset."""
        return self._claims.send(partition)

    def drop_claims(self) -> None:
        """Make sure that claims that were not acknowledged are not delivered later."""
        self._claims.start_over()

    def is_member_since(self, monotonic: float) -> bool:
        """Whether the group has confirmed this worker's partitions since a moment."""
        return self._joined.is_stable and self._joined.heard_monotonic > monotonic

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        member, reader = self._member, self._reader
        self._member = self._reader = None
        self._has_topics = False
        self._claims.close()
        if member is not None:
            member.stop()
        if reader is not None:
            reader.close(timeout_ms=_CLOSE_MS)
        if member is not None:
            member.join(_LEAVE_SECONDS)

    def _named(self, partition: int) -> Any:
        return kafka.TopicPartition(self._config.topic, partition)
