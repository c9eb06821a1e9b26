"""Decide when a camera's hardware decoder has failed too often."""

from __future__ import annotations

from stream.ingest.decodable import SoftwareReason

__all__ = ["DecodeFailures", "ReorderedError", "SoftwareNeededError"]

# After this many packets in a row without a frame, or groups with an error, software takes over.
_MAX_SILENT = 60
_MAX_FAILED_GROUPS = 3


class SoftwareNeededError(Exception):
    """The camera must be decoded in software from now on."""

    def __init__(self, reason: SoftwareReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ReorderedError(Exception):
    """Frames are not in the order of their packets, though the stream did not say so."""


class DecodeFailures:
    """Counts the failures of one camera's decoder since the last gap in the stream."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self._silent = 0  # packets in a row without a frame
        self._failed_groups = 0  # before this one, in a row
        self._has_failed = False  # this group

    def start_group(self) -> None:
        """Note a key frame."""
        self._failed_groups = self._failed_groups + 1 if self._has_failed else 0
        self._has_failed = False

    def note_packet(self) -> None:
        """Note a packet that the decoder got."""
        self._silent += 1

    def note_frame(self) -> None:
        """Note a decoded frame."""
        self._silent = 0

    def note_failure(self) -> None:
        """Note that a packet could not be decoded."""
        self._has_failed = True

    @property
    def are_too_many(self) -> bool:
        """Whether software should take over."""
        failed_groups = self._failed_groups + self._has_failed
        return self._silent >= _MAX_SILENT or failed_groups >= _MAX_FAILED_GROUPS
