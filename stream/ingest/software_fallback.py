"""Says that one camera is decoded in software and why, and when NVDEC may be tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream.ingest.decodable import SoftwareReason
from stream.metrics import Metrics
from stream.types import BreakReason, CodedPacket

__all__ = ["SoftwareFallback"]

# An attempt that fails delays frames, by up to ten seconds.
_RETRY_SECONDS = 300.0
_log = logging.getLogger(__name__)


class SoftwareFallback:
    """Reports one camera's ways to software and back. One thread uses it.

    Args:
        on_software: told how the camera is decoded; an empty text if as it was asked for.
    """

    def __init__(
        self, camera_id: str, metrics: Metrics, on_software: Callable[[str], None]
    ) -> None:
        self._camera_id = camera_id
        self._metrics = metrics
        self._on_software = on_software
        self._log_context = {"camera": camera_id}
        self._retry_monotonic: float | None = None
        metrics.software_decoding.remove_by_labels(self._log_context)

    def note(self, decoder: str, reason: SoftwareReason, detail: str) -> None:
        """Note that the camera is decoded in software from now on.

        Args:
            decoder: `NVDEC` or `DALI`, which gives up.
        """
        if decoder == "NVDEC":
            self._retry_monotonic = time.monotonic() + _RETRY_SECONDS
        self._metrics.software_decoding.labels(self._camera_id, reason.value).set(1)
        self._metrics.decoder_fallbacks.labels(reason.value).inc()
        _log.warning(
            "camera %s is decoded in software, not by %s (%s): %s",
            self._camera_id,
            decoder,
            reason.value,
            detail,
            extra=self._log_context,
        )
        self._on_software(f"decoded in software: {detail}")

    def ends_with(self, coded: CodedPacket) -> bool:
        """Tell whether NVDEC should be tried again after a packet: a new connection begins.

        If so, this is counted and logged.
        """
        due = self._retry_monotonic
        is_new = coded.packet is None and coded.lost is not BreakReason.DROPPED
        if not is_new or due is None or time.monotonic() < due:
            return False
        self._retry_monotonic = None
        self._metrics.software_decoding.remove_by_labels(self._log_context)
        self._metrics.decoder_retries.inc()
        _log.info("camera %s: NVDEC is tried again", self._camera_id, extra=self._log_context)
        self._on_software("")
        return True
