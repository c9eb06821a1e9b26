"""Notices cameras that run and give no clips, and finds out why."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence

from model.media.clip_cutter import DEFAULT_FRAMES
from stream.cameras.status import CameraStatus
from stream.metrics import Metrics
from stream.types import Blindness, BlindReason

__all__ = ["BlindnessWatch", "explain_blindness"]

_LOOK_SECONDS = 1.0
# A camera with fewer frames per second shows no motion in a clip of about two seconds.
_MIN_FPS = 0.4
# A camera that sends packets without frames is reopened now and then; that is not the reason.
_FEW_RECONNECTS = 2

Counts = Mapping[str, float]

_DETAILS = {
    BlindReason.RECONNECTS: (
        "its connection broke too often for a clip; check the network and the camera's load"
    ),
    BlindReason.NO_FRAMES: (
        "packets come, but no frame; the camera may send no key frames: set its key frame interval"
        " (GOP) to 2 s or less"
    ),
    BlindReason.UNDECODABLE: (
        "its frames cannot be decoded or converted; see the log, and set the camera to H.264 or"
        " H.265 with 8 bits"
    ),
    BlindReason.DECODER_BEHIND: (
        "decoding is too slow, so packets are dropped; lower the camera's resolution or frame rate"
    ),
    BlindReason.FRAME_RATE: (
        "its frames are more than 2.5 s apart; set the camera to one frame per second or more"
    ),
    BlindReason.TIMESTAMPS: (
        "the times of its frames do not go on evenly; check the clock of the camera or of its"
        " server"
    ),
    BlindReason.FRAME_SIZE: (
        "the size of its frames changes before a clip is complete; set a fixed resolution"
    ),
    BlindReason.NO_SLOT: "there is no room in the ring; raise batch.max_views",
    BlindReason.OVERLOAD: (
        "the network is too slow for all cameras; lower their number, or raise clip.hop"
    ),
    BlindReason.INVALID_RESULTS: "the network returns invalid numbers; check the weights",
    BlindReason.NO_RESULTS: "its frames are taken, but the network has given no result",
}
_RESETS = {
    "size": BlindReason.FRAME_SIZE,
    "gap": BlindReason.TIMESTAMPS,
    "backwards": BlindReason.TIMESTAMPS,
    "dropped": BlindReason.DECODER_BEHIND,
}


@dataclasses.dataclass
class _Watched:
    """What is known about the clips of one camera. Times are monotonic."""

    clips: int
    since: float  # the last clip, or the start
    ran: float | None = None  # when the camera was last seen running
    baseline: Counts | None = None  # its counts after half of the patience
    baseline_at: float = 0.0


class BlindnessWatch:
    """Marks cameras that run and give no clip for a while.

    Offline cameras are not marked: their state says it. One thread calls `update`.

    Args:
        patience_seconds: a camera without a clip for this long is blind.
    """

    def __init__(self, metrics: Metrics, patience_seconds: float) -> None:
        self._metrics = metrics
        self._patience = patience_seconds
        self._watched: dict[str, _Watched] = {}
        self._updated = float("-inf")

    def update(self, statuses: Sequence[CameraStatus]) -> None:
        """Look at all cameras, at most once per second. Call this regularly."""
        now = time.monotonic()
        if now - self._updated < min(_LOOK_SECONDS, self._patience / 4):
            return
        if now - self._updated > self._patience / 2:
            self._watched.clear()  # the whole process stood still
        self._updated = now
        clips = self._metrics.by_camera(self._metrics.clips)
        for status in statuses:
            self._look(status, clips.get(status.camera.id, 0), now)
        for camera_id in self._watched.keys() - {status.camera.id for status in statuses}:
            del self._watched[camera_id]

    def _look(self, status: CameraStatus, clips: int, now: float) -> None:
        watched = self._watched.get(status.camera.id)
        is_running = status.state in ("running", "blocked")
        is_away = not is_running and (watched is None or self._is_away(watched, now))
        if status.state == "ended" or is_away:
            self._watched.pop(status.camera.id, None)
            status.set_blind(None)
            return
        if watched is None or watched.clips != clips:
            watched = self._watched[status.camera.id] = _Watched(clips, now)
            status.set_blind(None)
        if is_running:
            watched.ran = now
        silent = now - watched.since
        if watched.baseline is None and silent >= self._patience / 2:
            watched.baseline = self._counts(status.camera.id)
            watched.baseline_at = now
        if silent >= self._patience and status.blind is None and watched.baseline is not None:
            counts = self._counts(status.camera.id)
            change = {name: counts[name] - watched.baseline.get(name, 0) for name in counts}
            reason = explain_blindness(change, now - watched.baseline_at)
            status.set_blind(Blindness(reason, _DETAILS[reason], watched.since))

    def _is_away(self, watched: _Watched, now: float) -> bool:
        """Whether a camera has not run for so long that its state says enough."""
        return watched.ran is None or now - watched.ran > self._patience

    def _counts(self, camera_id: str) -> Counts:
        metrics = self._metrics
        counts: collections.Counter[str] = collections.Counter(
            reconnects=metrics.total(metrics.reconnects, camera=camera_id),
            decoded=metrics.total(metrics.decoded, camera=camera_id),
            sampled=metrics.total(metrics.sampled, camera=camera_id),
            corrupt=metrics.total(metrics.corrupt, camera=camera_id),
            packets=metrics.total(metrics.dropped_packets, camera=camera_id, reason="decoder"),
        )
        for metric in (metrics.resets, metrics.dropped_frames, metrics.dropped_clips):
            counts.update(metrics.by_label(metric, "reason", camera=camera_id))
        return counts


def explain_blindness(change: Counts, seconds: float) -> BlindReason:
    """Find the most likely reason why a camera gives no clips.

    Args:
        change: how much the camera's counts have grown: `reconnects`, `decoded`, `sampled`,
            `corrupt`, `packets` (dropped ones), and each reason for a restart of the clip, a
            dropped frame or a dropped clip.
        seconds: in this time.
    """
    counts: collections.Counter[str] = collections.Counter()
    counts.update(dict(change))
    decoded = counts["decoded"]
    if not decoded and not counts["corrupt"]:
        return _explain_no_frames(counts)
    # Only the frames of the time grid are converted: often about half of them.
    if counts["corrupt"] + counts["conversion"] >= decoded / 4:
        return BlindReason.UNDECODABLE
    for name, reason in (
        ("not_finite", BlindReason.INVALID_RESULTS),
        ("overload", BlindReason.OVERLOAD),
        ("no_slot", BlindReason.NO_SLOT),
    ):
        if counts[name]:
            return reason
    if counts["reconnect"] or counts["stalled"]:
        return BlindReason.RECONNECTS
    if decoded < _MIN_FPS * seconds:
        return BlindReason.FRAME_RATE
    if counts["wrong_time"] + counts["repeated_time"] >= decoded / 2:
        return BlindReason.TIMESTAMPS
    resets = {reason: counts[name] for name, reason in _RESETS.items() if counts[name]}
    if resets:
        return max(resets, key=lambda reason: resets[reason])
    return BlindReason.NO_RESULTS if counts["sampled"] >= DEFAULT_FRAMES else BlindReason.OVERLOAD


def _explain_no_frames(counts: Counts) -> BlindReason:
    if counts["packets"]:
        return BlindReason.DECODER_BEHIND
    if counts["reconnects"] > _FEW_RECONNECTS:
        return BlindReason.RECONNECTS
    return BlindReason.NO_FRAMES
