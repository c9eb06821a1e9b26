"""Keep the packets with which another decoder can take over a camera."""

from __future__ import annotations

import dataclasses

from stream.types import CodedPacket

__all__ = ["KeptPackets"]

_MAX_PACKETS = 2048


@dataclasses.dataclass
class _Group:
    """A key frame and what follows it, or what came before the first key frame."""

    first_tag: int
    packets_before: int  # of the connection
    packets: list[CodedPacket] = dataclasses.field(default_factory=list)
    bytes: int = 0
    reported: int = 0  # as damaged


class KeptPackets:
    """Keeps packets since the last key frame, and earlier groups whose frames are still due.

    If they take too much room, none are kept until the next key frame. How long they last does not
    matter: otherwise a camera with long groups would lose them.

    Args:
        max_bytes: size of all groups together.

    Attributes:
        is_whole: whether decoding can go on with what is kept; if not, with the next key frame.
        started_monotonic: arrival of the connection's first packet; None before it.
        packets: number of the connection's packets so far.
    """

    def __init__(self, *, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self.restart()

    def restart(self) -> None:
        """Forget everything; the next packet is the first of a connection."""
        self._groups: list[_Group] = []
        self.is_whole = True
        self.started_monotonic: float | None = None
        self.packets = 0

    def add(self, coded: CodedPacket, tag: int) -> None:
        """Keep a packet.

        Args:
            tag: of the packet, higher than those before.
        """
        if self.started_monotonic is None:
            self.started_monotonic = coded.arrived_monotonic
        self.is_whole = self.is_whole or coded.is_key
        if self.is_whole:
            if coded.is_key or not self._groups:
                self._groups.append(_Group(tag, self.packets))
            self._groups[-1].packets.append(coded)
            self._groups[-1].bytes += coded.size
            if self._is_over():
                self._groups.clear()
                self.is_whole = False
        self.packets += coded.size > 0

    def forget(self, oldest_tag: int) -> None:
        """Forget groups whose frames have all come.

        Args:
            oldest_tag: of the packets whose frames are still due, or else of the next packet.
        """
        groups = self._groups
        while len(groups) > 1 and groups[1].first_tag <= oldest_tag:
            groups.pop(0)

    def renumber(self, tag: int) -> None:
        """Note that what is kept is decoded again, with tags from this one on."""
        for group in self._groups:
            group.first_tag = tag
            tag += len(group.packets)

    def note_reported(self, coded: CodedPacket) -> None:
        """Note that a packet was reported as damaged, so that nobody does it again."""
        for group in self._groups:
            group.reported += any(each is coded for each in group.packets)

    @property
    def reported(self) -> int:
        """Number of packets among those that are kept that were reported as damaged."""
        return sum(group.reported for group in self._groups)

    @property
    def packets_before(self) -> int:
        """Number of the connection's packets before those that are kept."""
        return self._groups[0].packets_before if self._groups else self.packets

    def rest(self) -> tuple[CodedPacket, ...]:
        """Return what is kept, in decoding order."""
        return tuple(coded for group in self._groups for coded in group.packets)

    def _is_over(self) -> bool:
        groups = self._groups
        return (
            sum(group.bytes for group in groups) > self._max_bytes
            or sum(len(group.packets) for group in groups) > _MAX_PACKETS
        )
