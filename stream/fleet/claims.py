"""Claims: a worker writes one into a partition before it runs the partition's cameras."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from stream.events.config import KafkaConfig
from stream.events.event import rfc3339
from stream.events.kafka import abandon_producer, connect_producer, kafka
from stream.fleet.records import CLAIM_KEY, encode_claim

__all__ = ["Claims"]

# A claim that arrives late would stop the cameras of the worker that has the partition by then.
_DELIVERY_SECONDS = 4.0


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
