"""The analysis thread: sampled frames of all cameras to batches of clips.

It alone touches the ring, the schedule and the sessions of the cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from model.device_streams import DeviceStream
from model.media.preprocess import Preprocessor
from stream.analysis.backlog import Backlog
from stream.analysis.batcher import Batcher
from stream.analysis.config import BatchConfig
from stream.analysis.crop import crop, is_flat
from stream.analysis.inbox import Inbox
from stream.analysis.ring import ClipRing
from stream.analysis.schedule import Schedule
from stream.analysis.session import CameraSession, ViewState
from stream.metrics import Metrics
from stream.stage import Stage
from stream.types import (
    BreakReason,
    CameraOpened,
    ClipBatch,
    ClipRef,
    SampledFrame,
    StreamBreak,
    StreamItem,
    View,
)

__all__ = ["ClipStage"]

_LOOK_SECONDS = 0.05

Gather = Callable[[Tensor, list[tuple[int, int]]], Tensor]


class ClipStage(Stage):
    """Preprocesses frames, keeps each view's clip in the ring, and sends clips that are due.

    Args:
        config: bounds of batches.
        stride: frames from one clip to the next, of cameras that have no `hop` of their own.
        inbox: where frames come from.
        backlog: where batches go.
        ring: the clips; a view takes a slot with its first frame and returns it at its end.
        gather: makes a normalised batch of clips of the ring.
        stream: the device's stream for this thread; default: that of a CPU. The ring is written and
            gathered from on this stream only, so a frame never replaces one that a gather still
            reads.
        keeps_frames: whether clips carry their newest frame, for pictures of events.

    Attributes:
        preprocessor: makes small frames of crops; it may be replaced before the stage starts.
    """

    def __init__(
        self,
        config: BatchConfig,
        *,
        stride: int,
        inbox: Inbox,
        backlog: Backlog,
        ring: ClipRing,
        preprocessor: Preprocessor,
        gather: Gather,
        metrics: Metrics,
        stream: DeviceStream | None = None,
        keeps_frames: bool = False,
    ) -> None:
        super().__init__("analysis")
        self._config = config
        self._stride = stride
        self._inbox = inbox
        self._backlog = backlog
        self._ring = ring
        self.preprocessor = preprocessor
        self._gather = gather
        self._metrics = metrics
        self._keeps_frames = keeps_frames
        self._stream = stream or DeviceStream(torch.device("cpu"))
        sizes = config.sizes(ring.buffer_STHWC.device)
        self._frames_at_once = sizes.frames_at_once
        self._batcher = Batcher(max_batch=sizes.max_batch, deadline_seconds=config.deadline_seconds)
        self._schedule = Schedule(ring.frames)
        self._sessions: dict[str, CameraSession] = {}

    def run(self) -> None:
        """Work until the inbox is closed and empty; then close the backlog."""
        with self._stream:
            self._work()

    def _work(self) -> None:
        while not self.stopping.is_set():
            self.beat()
            is_over = self._inbox.is_closed
            with self.waiting():
                items = self._take_items(is_over)
            self._process(items)
            if self._batcher.is_due():
                self._send_batch()
            if is_over and not items:
                self._send_batch()
                self._backlog.close()
                return

    def _take_items(self, is_over: bool) -> list[StreamItem]:
        """Take what came. While the network is behind, cameras that may wait keep theirs."""
        seconds = min(self._batcher.seconds_left(), _LOOK_SECONDS)
        if is_over or not self._backlog.is_behind(self._config.max_wait_seconds):
            return self._inbox.take(self._frames_at_once, seconds)
        return self._inbox.take(self._frames_at_once, seconds, self._may_wait)

    def _may_wait(self, camera_id: str) -> bool:
        session = self._sessions.get(camera_id)
        return session is not None and session.opened.waits

    # What came ------------------------------------------------------------------------------------

    def _process(self, items: Sequence[StreamItem]) -> None:
        """Preprocess together the frames that came together, in order between other items."""
        frames: list[SampledFrame] = []
        for item in items:
            if isinstance(item, SampledFrame) and not is_flat(item.frame_HWC):
                frames.append(item)
                continue
            self._add_frames(frames)
            frames = []
            if isinstance(item, CameraOpened):
                self._open(item)
            elif isinstance(item, StreamBreak):
                self._break(item)
            else:
                self._refuse_flat(item)
        self._add_frames(frames)

    def _open(self, opened: CameraOpened) -> None:
        session = self._sessions.get(opened.camera_id)
        if session is not None and session.config == opened.config:
            session.opened = opened  # its reader was replaced
            return
        if session is not None:
            self._break(StreamBreak(opened.camera_id, BreakReason.CHANGED, session.generation))
        self._sessions[opened.camera_id] = CameraSession(opened, self._stride)
        self._backlog.put(opened)

    def _refuse_flat(self, frame: SampledFrame) -> None:
        self._metrics.corrupt.labels(frame.camera_id).inc()
        session = self._sessions.get(frame.camera_id)
        if session is not None:
            self._break(StreamBreak(frame.camera_id, BreakReason.SIZE, session.generation))

    def _add_frames(self, frames: Sequence[SampledFrame]) -> None:
        targets: list[tuple[SampledFrame, CameraSession]] = []
        crops: list[Any] = []
        for frame in frames:
            session = self._sessions.get(frame.camera_id)
            if session is None:
                continue
            if missing := session.acquire(self._ring):
                self._metrics.dropped_frames.labels(frame.camera_id, "no_slot").inc(missing)
            targets.append((frame, session))
            crops += [crop(frame.frame_HWC, state.region) for state in session.views.values()]
        small_frames = iter(self._preprocess(crops))
        for frame, session in targets:
            for view, state in session.views.items():
                self._write(session, view, state, frame, next(small_frames))

    def _preprocess(self, crops: list[Any]) -> list[Tensor]:
        """Make small frames of crops; those that are on the device already are not copied there."""
        frames: list[Tensor] = []
        for begin in range(0, len(crops), self._frames_at_once):
            part = [_kept(each)[None] for each in crops[begin : begin + self._frames_at_once]]
            with self._metrics.stage.labels("preprocess").time():
                batch = self.preprocessor(part)[:, 0]
                # The graph reuses its memory at the next run.
                frames += list(batch.clone() if len(crops) > self._frames_at_once else batch)
        return frames

    # Clips that are due ---------------------------------------------------------------------------

    def _write(
        self,
        session: CameraSession,
        view: View,
        state: ViewState,
        frame: SampledFrame,
        small_HWC: Tensor,
    ) -> None:
        if self._batcher.holds(state.slot):
            self._send_batch()  # its oldest frame is about to be overwritten
        state.count = self._ring.push(state.slot, small_HWC)
        state.latest = frame
        if not self._schedule.is_due(view, state.count, session.stride):
            return
        # When the network is behind, cameras that cannot wait take turns: their strides stretch,
        # evenly and counted.
        if not session.opened.waits and self._is_behind(view):
            self._schedule.postpone(view)
        else:
            self._add_clip(session, view, state, frame)

    def _is_behind(self, view: View) -> bool:
        clips_before = self._schedule.waiting_longer(view)
        return self._backlog.is_behind(self._config.max_wait_seconds, clips_before)

    def _add_clip(
        self, session: CameraSession, view: View, state: ViewState, frame: SampledFrame
    ) -> None:
        skipped = self._schedule.mark_taken(view, state.count, session.stride)
        self._count_skipped(view, skipped)
        state.has_emitted = True
        picture = crop(frame.frame_HWC, state.region) if self._keeps_frames else None
        moment = (frame.pts_seconds, frame.arrived_monotonic, frame.wall_seconds)
        ref = ClipRef(view, *moment, picture, frame.sampled_monotonic)
        self._batcher.add(state.slot, ref)
        if self._batcher.is_due():
            self._send_batch()

    def _count_skipped(self, view: View, clips: int) -> None:
        if clips:
            self._metrics.dropped_clips.labels(view.camera_id, "overload").inc(clips)

    def _send_batch(self) -> None:
        due = self._batcher.take()
        if not due:
            return
        places = self._ring.places([slot for slot, _ in due])
        with self._metrics.stage.labels("gather").time():
            clips_BCTHW = self._gather(self._ring.buffer_STHWC, places)
        batch = ClipBatch(clips_BCTHW, tuple(ref for _, ref in due), self._stream.record())
        with self.waiting():
            self._backlog.put(batch)

    # Interruptions --------------------------------------------------------------------------------

    def _break(self, broken: StreamBreak) -> None:
        session = self._sessions.get(broken.camera_id)
        if session is None:
            if broken.reason.is_final:
                self._backlog.put(broken)
            return
        if broken.generation < session.generation:
            return  # the camera was opened again since
        if self._ends_recording(session, broken.reason):
            self._add_last_clips(session)
        if any(self._batcher.holds(state.slot) for state in session.views.values()):
            self._send_batch()
        has_emitted = session.has_emitted
        self._restart(session)
        if not broken.reason.is_departure:
            self._metrics.resets.labels(broken.camera_id, broken.reason.value).inc()
        if broken.reason.is_final:
            self._close(session)
        if has_emitted or broken.reason.is_final:  # otherwise no event can be open
            self._backlog.put(broken)

    def _ends_recording(self, session: CameraSession, reason: BreakReason) -> bool:
        """Whether a recording has been read to its end, for the last time or on its way round."""
        is_next_turn = reason is BreakReason.RECONNECT and session.opened.is_recording
        return reason is BreakReason.ENDED or is_next_turn

    def _add_last_clips(self, session: CameraSession) -> None:
        """Give a file's last frames a clip; a file shorter than a clip repeats its last frame."""
        for view, state in session.views.items():
            if state.latest is None or not self._schedule.is_last_due(view, state.count):
                continue
            while state.count < self._ring.frames:
                state.count = self._ring.push(state.slot, self._ring.latest(state.slot))
            self._add_clip(session, view, state, state.latest)

    def _restart(self, session: CameraSession) -> None:
        for view, state in session.views.items():
            skipped = self._schedule.restart(view, state.count, session.stride)
            self._count_skipped(view, skipped)
            self._ring.clear(state.slot)
            state.restart()

    def _close(self, session: CameraSession) -> None:
        for view in session.views:
            self._schedule.forget(view)
        session.release(self._ring)
        del self._sessions[session.config.id]


def _kept(crop_HWC: Any) -> Any:
    """Keep the memory of a tensor on a GPU until this thread's stream has read it."""
    if isinstance(crop_HWC, Tensor) and crop_HWC.is_cuda:
        crop_HWC.record_stream(torch.cuda.current_stream(crop_HWC.device))
    return crop_HWC
