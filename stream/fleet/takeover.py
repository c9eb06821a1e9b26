"""A worker that takes partitions over ends the actions that their earlier workers left open."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs import BrokerError
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent, ended_by_crash, latest_moment
from stream.events.kafka import kafka
from stream.fleet.open_log import MARK_KEY, OpenAction, OpenLogWriter, open_actions, read_partitions

__all__ = ["OpenActionsTakeover"]

_log = logging.getLogger(__name__)
_MARK_SECONDS = 3.0
_READ_SECONDS = 3.0


class OpenActionsTakeover:
    """Ends what the earlier workers of partitions left open. One thread uses it.

    A mark in the topic of open events comes first. What stands before the mark is this worker's to
    end; what the earlier worker writes after it counts no more. An action whose `ended` event is in
    the topic already gets this very event once more, because nobody knows whether it was sent.
    Readers drop the repetition.

    Args:
        config: the broker of the events.
        worker: name of this worker.
        next_sequence: returns the next event number of a camera in an epoch.
        resend: told the event id, partition and epoch of an event of another worker that this one
            sends again.
        announce: takes the events that end the actions.
        read: reads partitions of the topic of open events.
    """

    def __init__(
        self,
        config: KafkaConfig,
        writer: OpenLogWriter,
        *,
        worker: str,
        next_sequence: Callable[[str, int], int],
        resend: Callable[[str, int, int], None],
        announce: Callable[[Sequence[ActionEvent]], None],
        read: Callable[..., Mapping[int, Any]] = read_partitions,
    ) -> None:
        self._config = config
        self._writer = writer
        self._worker = worker
        self._next_sequence = next_sequence
        self._resend = resend
        self._announce = announce
        self._read = read

    def finish(self, epochs: Mapping[int, int]) -> set[int]:
        """End what is open in these partitions, by their new epochs; returns the partitions done.

        Raises:
            BrokerError, KafkaError: the broker does not answer; call this again.
        """
        marks = self._mark(epochs)
        logs = self._read(
            self._config, self._writer.topic, list(epochs), timeout_seconds=_READ_SECONDS
        )
        for partition, epoch in epochs.items():
            found, void = open_actions(logs[partition], marks[partition])
            events = self._ends(partition, epoch, list(found.values()))
            if events:
                _log.warning(
                    "partition %d of the cameras: ended %d actions that another worker had left",
                    partition,
                    len(events),
                )
                self._announce(events)
            for event_id in void:
                self._writer.send(partition, event_id.encode(), None, epoch)
        return set(epochs)

    def _mark(self, epochs: Mapping[int, int]) -> dict[int, int]:
        value = json.dumps({"worker": self._worker}).encode()
        try:
            futures = {
                partition: self._writer.send(partition, MARK_KEY, value, epoch)
                for partition, epoch in epochs.items()
            }
        except AssertionError:  # this is how the library refuses a partition that does not exist
            raise BrokerError(
                f"topic {self._writer.topic!r} has fewer partitions than the topic of the cameras;"
                " give it as many"
            ) from None
        deadline = time.monotonic() + _MARK_SECONDS
        try:
            return {
                partition: future.get(max(0.0, deadline - time.monotonic())).offset
                for partition, future in futures.items()
            }
        except kafka.errors.KafkaError:
            self._writer.start_over()
            raise

    def _ends(self, partition: int, epoch: int, found: list[OpenAction]) -> list[ActionEvent]:
        numbers: collections.Counter[str] = collections.Counter()
        events = []
        for action in found:
            event = action.event
            if event.kind == "ended":
                self._resend(event.event_id, partition, epoch)
                events.append(event)
                continue
            number = self._next_sequence(event.camera_id, epoch) + numbers[event.camera_id]
            numbers[event.camera_id] += 1
            until = latest_moment(action.value)
            ended = dataclasses.replace(event, worker=self._worker, epoch=epoch)
            events.append(ended_by_crash(ended, number, until))
        return events
