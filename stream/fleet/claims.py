"""Claims: a worker writes one into a partition before it runs the partition's cameras."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from typing import Any

from stream.events.config import KafkaConfig
from stream.events.event import rfc3339
from stream.events.kafka import abandon_producer, connect_producer, connect_reader, kafka
from stream.fleet.records import CLAIM_KEY, encode_claim

__all__ = ["ClaimWatch", "Claims"]

# A claim that arrives late would stop the cameras of the worker that has the partition by then.
_DELIVERY_SECONDS = 4.0
_ANSWER_MS = 2_000
_POLL_MS = 50
_WAIT_MS = 10


class Claims:
    """Writes claims. One thread uses it.

    Args:
        config: of the topic of cameras.
        connect: makes the producer; tests replace it.
    """

    def __init__(
        self,
        config: KafkaConfig,
        worker: str,
        connect: Callable[[KafkaConfig, float], Any] = connect_producer,
    ) -> None:
        self._config = config
        self._worker = worker
        self._connect = connect
        self._producer: Any = None

    def send(self, partition: int) -> Any:
        """Send a claim; its future gives the offset.

        Raises:
            BrokerError, KafkaError: it cannot be sent now.
        """
        if self._producer is None:
            self._producer = self._connect(self._config, _DELIVERY_SECONDS)
        return self._producer.send(
            self._config.topic,
            encode_claim(self._worker, rfc3339(time.time())),
            key=CLAIM_KEY,
            partition=partition,
        )

    def start_over(self) -> None:
        """Drop what was not delivered; call this after a claim has failed."""
        if self._producer is not None:
            with contextlib.suppress(kafka.errors.KafkaError, OSError):
                abandon_producer(self._producer)
            self._producer = None

    def close(self) -> None:
        """Drop the producer."""
        self.start_over()


class ClaimWatch:
    """Finds out whether partitions were claimed again. One thread uses it.

    It has a connection of its own, so it also knows of partitions that this worker has lost.

    Args:
        config: of the topic of cameras.
        connect: makes the consumer; tests replace it.
    """

    def __init__(self, config: KafkaConfig, connect: Callable[..., Any] = connect_reader) -> None:
        self._config = config
        self._connect = connect
        self._reader: Any = None
        self._positions: dict[int, int] = {}
        self._newest: dict[int, int] = {}  # offset of each partition's newest claim

    def claimed_after(self, claims: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return those claims, as partition and epoch, after which another one was written.

        A claim that the topic no longer has, because it was made again, counts as followed by one.

        Raises:
            KafkaError: the broker does not answer.
        """
        if self._reader is None:
            self._reader = self._connect(self._config, max_wait_ms=_WAIT_MS)
        partitions = sorted({partition for partition, _ in claims})
        named = {number: kafka.TopicPartition(self._config.topic, number) for number in partitions}
        for number, epoch in claims:
            self._positions.setdefault(number, epoch + 1)
            self._newest[number] = max(self._newest.get(number, -1), epoch)
        ends = self._reader.end_offsets(list(named.values()), timeout_ms=_ANSWER_MS)
        gone = {number for number in partitions if ends[named[number]] < self._positions[number]}
        self._read({part: end for part, end in ends.items() if part.partition not in gone})
        return {
            (number, epoch)
            for number, epoch in claims
            if number in gone or self._newest[number] > epoch
        }

    def partitions(self) -> int:
        """Return how many partitions the topic has.

        Raises:
            KafkaError: the broker does not answer, or there is no such topic.
        """
        if self._reader is None:
            self._reader = self._connect(self._config, max_wait_ms=_WAIT_MS)
        numbers = self._reader.partitions_for_topic(self._config.topic)
        if not numbers:
            raise kafka.errors.UnknownTopicOrPartitionError(self._config.topic)
        return len(numbers)

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close(timeout_ms=_ANSWER_MS)
            self._reader = None

    def _is_behind(self, partition: Any, end: int) -> bool:
        """Whether there is more to read: by what the broker said first, and with the records."""
        newest = self._reader.highwater(partition)
        return newest is None or self._positions[partition.partition] < max(newest, end)

    def _read(self, ends: dict[Any, int]) -> None:
        if not ends:
            return
        self._reader.unsubscribe()  # then nothing of an earlier answer is left
        self._reader.assign(list(ends))
        for partition in ends:
            self._reader.seek(partition, self._positions[partition.partition])
        deadline = time.monotonic() + _ANSWER_MS / 1000
        while any(self._is_behind(partition, end) for partition, end in ends.items()):
            if time.monotonic() > deadline:
                raise kafka.errors.KafkaTimeoutError("claims could not be read in time")
            for partition, batch in self._reader.poll(timeout_ms=_POLL_MS).items():
                offsets = [record.offset for record in batch if record.key == CLAIM_KEY]
                number = partition.partition
                self._newest[number] = max([self._newest[number], *offsets])
            for partition in ends:
                position = self._reader.position(partition, timeout_ms=_POLL_MS)
                if position is not None:
                    self._positions[partition.partition] = position
