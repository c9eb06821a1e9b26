"""The analysis thread: sampled frames of all cameras to batches of clips. It alone touches the
ring and the schedule.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.media.preprocess import Preprocessor
from stream.analysis.batcher import WindowBatch
from stream.analysis.config import BatchConfig
from stream.analysis.inbox import FOR_GOOD, Inbox
from stream.analysis.ring import ClipRing
from stream.analysis.schedule import Schedule
from stream.cameras.config import CameraConfig, RegionConfig
from stream.metrics import Metrics
from stream.types import SampledFrame, StreamBreak, View, Window

__all__ = ["MOST_FRAMES_AT_ONCE", "Analysis", "Clips"]

MOST_FRAMES_AT_ONCE = 16
# Pictures flatter than this are no pictures of a camera; resizing them takes gigabytes.
_FLATTEST = 8


@dataclasses.dataclass(frozen=True)
class Clips:
    """A batch on its way to the network: normalised `clips_BCTHW`, and which clip is whose."""

    clips_BCTHW: Tensor
    windows: tuple[Window, ...]


@dataclasses.dataclass
class _Seen:
    """What is kept of a view: its slot of the ring, its region, and its newest frame."""

    slot: int
    region: RegionConfig | None
    hop: int
    count: int = 0
    spoke: bool = False  # whether a clip was cut since its clip last began anew
    latest: SampledFrame | None = None


class Analysis:
    """Preprocess, ring, batch.

    Args:
        ring: the clips; a view takes a slot with its first frame and gives it back when its camera
            goes.
        cameras: the configuration of a camera by its name; None for one that is gone.
        gather: windows of the ring as a normalised batch.
        offer: hands work to the network; waits while there is no room.
        is_behind: whether the network is, with so many clips more than wait for it: cameras that do
            not wait then leave clips out, files that do are left in the inbox.
        keeps_pictures: whether windows carry their newest picture.
    """

    def __init__(
        self,
        config: BatchConfig,
        *,
        preprocessor: Preprocessor,
        ring: ClipRing,
        inbox: Inbox,
        hop: int,
        metrics: Metrics,
        cameras: Callable[[str], CameraConfig | None],
        gather: Callable[[Tensor, list[tuple[int, int]]], Tensor],
        offer: Callable[[Clips | StreamBreak | None], None],
        is_behind: Callable[[int], bool],
        keeps_pictures: bool = False,
    ) -> None:
        self._preprocessor = preprocessor
        self._ring = ring
        self._inbox = inbox
        self._metrics = metrics
        self._hop = hop
        self._cameras = cameras
        self._gather = gather
        self._offer = offer
        self._is_behind = is_behind
        self._keeps_pictures = keeps_pictures
        self._batch = WindowBatch(config)
        self._schedule = Schedule(ring.frames)
        self._seen: dict[View, _Seen] = {}
        self.beat_monotonic = time.monotonic()

    def run(self, is_done: Callable[[], bool], is_aborted: Callable[[], bool]) -> None:
        """Work until nothing more comes, or something else failed."""
        while not is_aborted():
            self.beat_monotonic = time.monotonic()
            done = is_done()
            behind = not done and self._is_behind(0)
            held = self._waits if behind else _nobody
            items = self._inbox.take(
                MOST_FRAMES_AT_ONCE, min(self._batch.seconds_left(), 0.05), held
            )
            self._take_in(items)
            if self._batch.is_due():
                self._send_batch()
            if done and not items:
                self._send_batch()
                self._offer(None)
                return

    def _take_in(self, items: Sequence[SampledFrame | StreamBreak]) -> None:
        """Preprocess together what came together; what comes after a camera went finds its slot
        given back.
        """
        part: list[SampledFrame | StreamBreak] = []
        for item in items:
            part.append(item)
            if isinstance(item, StreamBreak) and item.reason in FOR_GOOD:
                self._take_part(part)
                part = []
        self._take_part(part)

    def _take_part(self, items: Sequence[SampledFrame | StreamBreak]) -> None:
        begun: list[tuple[SampledFrame | StreamBreak, list[_Seen]]] = []
        crops: list[NDArray[np.uint8]] = []
        for item in items:
            if isinstance(item, StreamBreak):
                begun.append((item, []))
            elif _is_flat(item.picture_HWC):
                self._metrics.corrupt.labels(item.camera_id).inc()
                begun.append((StreamBreak(item.camera_id, "size"), []))
            else:
                seen = self._views_of(item)
                begun.append((item, seen))
                crops += [_crop(item.picture_HWC, each.region) for each in seen]
        pictures = iter(self._preprocess(crops))
        for item, seen in begun:
            if isinstance(item, StreamBreak):
                self._break(item)
            else:
                for each in seen:
                    self._write(
                        View(item.camera_id, each.region.id if each.region else None),
                        each,
                        item,
                        next(pictures),
                    )

    def _views_of(self, frame: SampledFrame) -> list[_Seen]:
        camera = self._cameras(frame.camera_id)
        if camera is None:
            return []
        found = []
        for view, region in zip(camera.views, camera.regions or (None,), strict=True):
            if view not in self._seen and self._ring.free:
                self._seen[view] = _Seen(self._ring.acquire(), region, camera.hop or self._hop)
            if view in self._seen:
                found.append(self._seen[view])
            else:
                # the camera before it has been removed, but its last frames are still on their way
                self._metrics.dropped.labels(frame.camera_id, "no_slot").inc()
        return found

    def _preprocess(self, crops: list[NDArray[np.uint8]]) -> list[Tensor]:
        pictures: list[Tensor] = []
        for begin in range(0, len(crops), MOST_FRAMES_AT_ONCE):
            with self._metrics.stage.labels("preprocess").time():
                batch = self._preprocessor(
                    [crop[None] for crop in crops[begin : begin + MOST_FRAMES_AT_ONCE]]
                )[:, 0]
                # The graph reuses its memory at the next run.
                pictures += list(batch.clone() if len(crops) > MOST_FRAMES_AT_ONCE else batch)
        return pictures

    def _write(self, view: View, seen: _Seen, frame: SampledFrame, picture_HWC: Tensor) -> None:
        if self._batch.holds(seen.slot):
            self._send_batch()  # its oldest frame is about to be overwritten
        seen.count = self._ring.push(seen.slot, picture_HWC)
        seen.latest = frame
        if not self._schedule.is_due(view, seen.count, seen.hop):
            return
        # When the network is behind, cameras that cannot wait take turns: their hops stretch,
        # evenly and counted.
        if not self._waits(view.camera_id) and self._is_behind(self._schedule.elders(view)):
            self._schedule.put_off(view)
            return
        self._add(view, seen, frame)

    def _waits(self, camera_id: str) -> bool:
        camera = self._cameras(camera_id)
        return camera is not None and camera.is_file and camera.pace == "fast"

    def _add(self, view: View, seen: _Seen, frame: SampledFrame) -> None:
        self._count_lost(view, self._schedule.went(view, seen.count, seen.hop))
        seen.spoke = True
        picture = _crop(frame.picture_HWC, seen.region) if self._keeps_pictures else None
        self._batch.add(
            seen.slot,
            Window(view, frame.pts_seconds, frame.arrived_monotonic, frame.wall_seconds, picture),
        )
        if self._batch.is_due():
            self._send_batch()

    def _break(self, broken: StreamBreak) -> None:
        views = {
            view: seen for view, seen in self._seen.items() if view.camera_id == broken.camera_id
        }
        camera = self._cameras(broken.camera_id)
        # a turn of a loop
        if broken.reason == "ended" or (
            broken.reason == "reconnect" and camera is not None and camera.is_file
        ):
            for view, seen in views.items():
                self._finish(view, seen)
        if any(self._batch.holds(seen.slot) for seen in views.values()):
            self._send_batch()
        spoke = any(seen.spoke for seen in views.values())
        for view, seen in views.items():
            self._count_lost(view, self._schedule.restart(view, seen.count, seen.hop))
            self._ring.clear(seen.slot)
            seen.count = 0
            seen.latest = None
            seen.spoke = False
            if broken.reason in FOR_GOOD:
                self._ring.release(seen.slot)
                self._schedule.forget(view)
                del self._seen[view]
        if camera is not None:
            self._metrics.resets.labels(broken.camera_id, broken.reason).inc()
        if spoke or broken.reason in FOR_GOOD:  # otherwise nothing can be open
            self._offer(broken)

    def _count_lost(self, view: View, clips: int) -> None:
        if clips and self._cameras(view.camera_id) is not None:
            self._metrics.dropped.labels(view.camera_id, "overload").inc(clips)

    def _finish(self, view: View, seen: _Seen) -> None:
        """A file's last frames get a clip of their own; a file shorter than a clip repeats its
        last frame, as in training.
        """
        if seen.latest is None or not self._schedule.is_last_due(view, seen.count):
            return
        while seen.count < self._ring.frames:
            seen.count = self._ring.push(seen.slot, self._ring.latest(seen.slot))
        self._add(view, seen, seen.latest)

    def _send_batch(self) -> None:
        due = self._batch.take()
        if due:
            with self._metrics.stage.labels("gather").time():
                clips = self._gather(
                    self._ring.buffer_STHWC, self._ring.windows([slot for slot, _ in due])
                )
            self._offer(Clips(clips, tuple(window for _, window in due)))


def _crop(picture_HWC: NDArray[np.uint8], region: RegionConfig | None) -> NDArray[np.uint8]:
    if region is None:
        return picture_HWC
    rows, columns = region.pixels(picture_HWC.shape[1], picture_HWC.shape[0])
    cut = picture_HWC[rows, columns]
    # The network sees the middle, as high as wide: of a narrow strip the ends are not worth
    # resizing.
    longest = _FLATTEST * min(cut.shape[:2])
    top, left = (max(0, (side - longest) // 2) for side in cut.shape[:2])
    return np.ascontiguousarray(cut[top : top + longest, left : left + longest])


def _is_flat(picture_HWC: NDArray[np.uint8]) -> bool:
    height, width = picture_HWC.shape[:2]
    return bool(max(height, width) > _FLATTEST * min(height, width))


def _nobody(camera_id: str) -> bool:
    return False
