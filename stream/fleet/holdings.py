"""The partitions that this worker has, and what it does with each.

Two workers must not run a camera for longer than `session_seconds`. So a worker makes sure several
times in a session that nobody else has claimed its partitions (`Partition.settle`). If it cannot,
`expire` stops the cameras before the session is over, by this machine's clock. The thread that
drives the pipeline calls `expire`, too: it works even while the other thread waits for a broker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from configs import CidcError
from stream.events.kafka import kafka
from stream.fleet.partitions import Partition, Phase
from stream.fleet.protocols import PartitionCalls, PartitionCameras, Takeover
from stream.fleet.records import Record, Unreadable
from stream.metrics import Metrics
from stream.types import EndReason

__all__ = ["Holdings"]

_log = logging.getLogger(__name__)
# Fractions of a session: cameras stop when the partition was not sure for so long; a claim that is
# not acknowledged has failed; how often a worker makes sure.
_LEASE = 0.7
_CLAIM = 0.5
_SURE = 0.1
_PAUSE_SECONDS = 1.0


class Holdings:
    """The partitions of one worker. One thread calls its methods; any thread those that say so.

    Args:
        session_seconds: after this long without a sign of life the group takes the partitions away.
        decode: makes a record of what the topic holds.
        takeover: None if there is no broker for events.
        min_partitions: with fewer, a warning says that the cameras are spread unevenly.
    """

    def __init__(
        self,
        calls: PartitionCalls,
        cameras: PartitionCameras,
        metrics: Metrics,
        *,
        session_seconds: float,
        decode: Callable[[Any], Record],
        takeover: Takeover | None,
        min_partitions: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._cameras = cameras
        self._metrics = metrics
        self._session_seconds = session_seconds
        self._decode = decode
        self._takeover = takeover
        self._min_partitions = min_partitions
        self._clock = clock
        self._held: dict[int, Partition] = {}
        self._lock = threading.Lock()  # around the phases and the cameras
        self._asked_monotonic = float("-inf")
        self._trouble: str | None = None  # with what other workers left open

    def work(self) -> None:
        """Read records, make sure of the partitions, and bring each one step further.

        Raises:
            BrokerError, KafkaError: the broker does not answer or refuses.
        """
        self._read()
        self._ask_if_due()
        for partition in self._held.values():
            self._advance(partition)
        self._take_over()
        self._cameras.retry()

    def expire(self) -> None:
        """Stop the cameras of partitions that others may have by now. Any thread may call it."""
        limit = self._clock() - _LEASE * self._session_seconds
        with self._lock:
            for partition in self._held.values():
                if partition.phase is Phase.RUNNING and partition.sure_monotonic < limit:
                    self._give_up(partition, "cut", _PAUSE_SECONDS)

    def phases(self) -> dict[Phase, int]:
        """How many partitions are in each phase that any is in. Any thread may ask."""
        with self._lock:
            phases = [partition.phase for partition in self._held.values()]
        return {phase: phases.count(phase) for phase in Phase if phase in phases}

    def epochs(self) -> dict[int, int]:
        """The epochs of the partitions whose cameras run."""
        with self._lock:
            return {
                partition.number: partition.epoch
                for partition in self._held.values()
                if partition.phase is Phase.RUNNING and partition.epoch is not None
            }

    def contact_age(self) -> float:
        """Seconds since the least sure partition that runs was this worker's for sure; 0: none."""
        with self._lock:
            sure = [p.sure_monotonic for p in self._held.values() if p.phase is Phase.RUNNING]
        return max(0.0, self._clock() - min(sure)) if sure else 0.0

    def unreadable(self) -> list[Unreadable]:
        """The newest records of their keys that cannot be used."""
        with self._lock:
            return [
                bad for partition in self._held.values() for bad in partition.unreadable.values()
            ]

    def share(self, assigned: set[int]) -> None:
        """Give up the partitions that this worker lost, at once, and begin to read the new ones."""
        lost = self._held.keys() - assigned
        new = assigned - self._held.keys()
        if not lost and not new:
            return
        with self._lock:
            for number in lost:
                self._stop_cameras(self._held.pop(number), "moved")
            for number in sorted(new):
                self._held[number] = Partition(number)
        self._metrics.fleet_rebalances.inc()
        self._calls.follow(set(self._held), new)
        if lost:
            _log.info("partitions %s of the cameras went to other workers", _shown(lost))
        if new:
            _log.info("this worker takes partitions %s of the cameras", _shown(new))
        if 0 < len(assigned) < self._min_partitions:
            self._min_partitions = 0  # say it once
            _log.warning(
                "this worker has only %d partitions of the cameras, so they may be spread unevenly;"
                " a topic with more partitions helps",
                len(assigned),
            )

    def clear(self) -> None:
        """Give up everything."""
        with self._lock:
            for partition in self._held.values():
                self._stop_cameras(partition, "failed")
            self._held.clear()

    def problem(self) -> str | None:
        """What keeps cameras of these partitions from running, in one line. Any thread may ask."""
        with self._lock:
            phases = {partition.number: partition.phase for partition in self._held.values()}
        waiting = [number for number, phase in phases.items() if phase is Phase.WAITING]
        if waiting:
            return f"partitions {_shown(waiting)} were given up and are not claimed again yet"
        starting = [number for number, phase in phases.items() if phase is not Phase.RUNNING]
        if not starting:
            return None
        trouble = "" if self._trouble is None else f" ({self._trouble})"
        return f"partitions {_shown(starting)} are being taken over{trouble}"

    # Records --------------------------------------------------------------------------------------

    def _read(self) -> None:
        for raw in self._calls.records():
            partition = self._held.get(raw.partition)
            if partition is not None:
                self._take(partition, self._decode(raw))
                partition.position = raw.offset + 1
        for partition in self._held.values():
            if partition.is_behind:  # by offsets that compaction left out, for instance
                partition.position = self._calls.position(partition.number)

    def _take(self, partition: Partition, record: Record) -> None:
        if isinstance(record, Unreadable):
            self._metrics.fleet_unreadable.inc()
            _log.error("a record of the cameras cannot be used: %s", record)
        with self._lock:
            change = partition.note(record)
            if partition.phase is not Phase.RUNNING or partition.epoch is None:
                return
            if partition.rival is not None:
                self._fence(partition)
            elif change is not None:
                self._cameras.change(partition.number, partition.epoch, change)

    def _ask_if_due(self) -> None:
        """Ask where the partitions end now; whoever has read so far knows of every claim."""
        now = self._clock()
        is_due = now - self._asked_monotonic >= _SURE * self._session_seconds
        if self._held and (is_due or any(p.end is None for p in self._held.values())):
            self._asked_monotonic = now
            for number, end in self._calls.ends(set(self._held)).items():
                self._held[number].ask(end, now)
        with self._lock:
            for partition in self._held.values():
                partition.settle()

    # Phases ---------------------------------------------------------------------------------------

    def _advance(self, partition: Partition) -> None:
        now = self._clock()
        if partition.phase is Phase.WAITING and now >= partition.wait_until_monotonic:
            if self._calls.is_member_since(partition.waits_since_monotonic):
                partition.read_again()
        elif partition.phase is Phase.READING and partition.is_read:
            partition.claim = (self._calls.claim(partition.number), now)
            partition.phase = Phase.CLAIMING
        elif partition.phase is Phase.CLAIMING:
            self._watch_claim(partition, now)

    def _watch_claim(self, partition: Partition, now: float) -> None:
        assert partition.claim is not None
        future, sent = partition.claim
        if future.is_done and not future.failed():
            partition.claimed(future.value.offset, sent)
        elif future.is_done or now - sent > _CLAIM * self._session_seconds:
            reason = future.exception if future.is_done else "no acknowledgement"
            _log.warning("partition %d of the cameras: claim failed: %s", partition.number, reason)
            self._calls.drop_claims()
            for other in self._held.values():
                if other.phase is Phase.CLAIMING:
                    other.wait(now, _PAUSE_SECONDS)

    def _take_over(self) -> None:
        """Start the cameras of claimed partitions, once what others left open there has ended."""
        limit = self._clock() - _LEASE * self._session_seconds
        ready: dict[int, int] = {}
        for partition in self._held.values():
            if partition.phase is not Phase.TAKING_OVER or not partition.has_read_claim:
                continue
            if partition.rival is not None:
                with self._lock:
                    self._fence(partition)
            elif partition.sure_monotonic >= limit and partition.epoch is not None:
                ready[partition.number] = partition.epoch
        if not ready:
            return
        done = self._finished(ready)
        limit = self._clock() - _LEASE * self._session_seconds
        for number in sorted(done):
            partition = self._held[number]
            if partition.sure_monotonic >= limit:  # otherwise make sure again first
                with self._lock:
                    partition.phase = Phase.RUNNING
                    self._cameras.start(number, ready[number], list(partition.cameras.values()))

    def _finished(self, ready: dict[int, int]) -> set[int]:
        """End what others left open; a failure holds only these partitions up."""
        if self._takeover is None:
            return set(ready)
        self._trouble = None
        try:
            return self._takeover.finish(ready)
        except (kafka.errors.KafkaError, CidcError) as error:
            self._trouble = f"{type(error).__name__}: {error}"
            return set()

    def _fence(self, partition: Partition) -> None:
        _log.warning(
            "partition %d of the cameras was claimed by %s; its cameras stop here",
            partition.number,
            partition.rival,
        )
        self._give_up(partition, "fenced", self._session_seconds)

    def _give_up(self, partition: Partition, reason: str, seconds: float) -> None:
        self._stop_cameras(partition, reason)
        partition.wait(self._clock(), seconds)

    def _stop_cameras(self, partition: Partition, reason: str) -> None:
        if partition.phase is not Phase.RUNNING:
            return
        stopped = self._cameras.stop(partition.number, EndReason.MOVED)
        self._metrics.fleet_stops.labels(reason).inc()
        if reason == "cut" and stopped:
            _log.error(
                "the broker of the cameras did not answer for %.1f s; stopped %d cameras of"
                " partition %d, because another worker may run them",
                _LEASE * self._session_seconds,
                stopped,
                partition.number,
            )


def _shown(numbers: Collection[int]) -> str:
    ordered = sorted(numbers)
    more = f" and {len(ordered) - 10} more" if len(ordered) > 10 else ""
    return ", ".join(map(str, ordered[:10])) + more
