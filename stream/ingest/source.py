"""Packets of one camera: open it, pace it, notice silence, reconnect. One source, one thread.

States (`stream.types.CameraState`): connecting for the first time; running; stalled, when it was
open and fell silent; offline, when it cannot be opened; ended. Stalled and offline last until
packets come again. A sixth state, blocked, belongs to the camera's worker: the stages behind it are
slow, and it never restarts a camera.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from av.error import ExitError, FFmpegError, InvalidDataError

from configs import MediaError
from model.media.container import explain, video_stream
from stream.backoff import Backoff
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.connection import (
    SourceFacts,
    choose_clock,
    explain_failure,
    find_facts,
    open_camera,
    wall_seconds,
)
from stream.ingest.known_packets import KnownPackets
from stream.ingest.pacing import Pacing
from stream.ingest.stream_clock import StreamClock
from stream.types import BreakReason, CameraState, CodedPacket, EndReason, PacketClock

__all__ = ["Source"]

# A connection that lasted this long was a good one: after it the pauses start short again.
_STEADY_SECONDS = 5.0
# A file of a few packets that loops must not keep a core busy.
_LOOP_PAUSE_SECONDS = 0.01
# A recording on the web is opened again so often without a new packet.
_MAX_RESUMES = 5
# FFmpeg gives at most these from an MJPEG stream whose parts it cannot follow.
_FEW_PICTURES = 2
_log = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """How a connection ended: packets received, and the problem, None for an orderly end.

    `is_invalid` if FFmpeg understands nothing of what comes; trying again does not help.
    """

    received: int
    problem: str | None
    is_invalid: bool = False


class Source:
    """Receives a camera: iterate over `packets()`.

    Args:
        stop: ends the iteration.
        on_state: told every change of state, with a reason for people.
        on_end: told at the end why no more packets come.
        on_reconnect: told each time the camera is opened again.
        on_rest: told when it begins to wait on purpose, and when that is over.
    """

    def __init__(
        self,
        camera: CameraConfig,
        config: SourceConfig,
        stop: threading.Event,
        *,
        on_state: Callable[[CameraState, str], None],
        on_end: Callable[[EndReason, str | None], None],
        on_reconnect: Callable[[], None] = lambda: None,
        on_rest: Callable[[bool], None] = lambda resting: None,
    ) -> None:
        self._camera = camera
        self._config = config
        self._stop = stop
        self._on_state = on_state
        self._on_end = on_end
        self._on_reconnect = on_reconnect
        self._on_rest = on_rest
        self._backoff = Backoff(config.backoff_initial_seconds, config.backoff_max_seconds)
        self._received = 0  # packets of this connection
        self._given_up: str | None = None
        self.facts = SourceFacts(camera.is_file, config.read_timeout_seconds)
        self._format: str | None = None  # of FFmpeg; None: it finds out
        self._known = KnownPackets()
        self._resumes = 0  # attempts to go on with a recording since its last new packet

    def find(self) -> bool:
        """Find out how the video comes, before `packets`; return whether there may be any.

        A web server that cannot be reached is asked again, after growing pauses.
        """
        self._on_state("connecting", "")
        while not self._stop.is_set():
            started_at = time.monotonic()
            try:
                facts = find_facts(self._camera, self._config)
                if facts is None:  # FFmpeg may get on with the server, or knows what is wrong
                    with open_camera(self._camera, self._config, self.facts):
                        facts = self.facts
                if facts.web is not None and facts.web.refusal is not None:
                    self._on_end(EndReason.FAILED, facts.web.refusal)
                    return False
                self.facts = facts
                return True
            except MediaError as error:
                seconds = time.monotonic() - started_at
                problem = explain_failure(self._camera, self._config, error, seconds)
            self._back_off(problem, 0)
            self._on_reconnect()
        self._on_end(EndReason.STOPPED, None)
        return False

    def packets(self) -> Iterator[CodedPacket]:
        """Packets with their arrival times, until a file ends or `stop` is set.

        Between two connections comes one with `packet=None`.
        """
        self._on_state("connecting", "")
        while not self._stop.is_set():
            started_at = time.monotonic()
            outcome = yield from self._one_connection()
            received, problem, _ = outcome
            if self._stop.is_set():
                break
            if self._goes_on_as_jpegs(outcome) or self._resumes_recording(outcome):
                continue
            if self._is_over(received, problem):
                self._on_end(EndReason.FAILED if problem else EndReason.FINISHED, problem)
                return
            if received:  # otherwise there is nothing to interrupt
                lost = BreakReason.STALLED if problem else BreakReason.RECONNECT
                yield CodedPacket(None, time.monotonic(), time.time(), lost=lost)
            if self.facts.is_recording:
                self._known.clear()
                self._stop.wait(_LOOP_PAUSE_SECONDS)
                continue
            if received and time.monotonic() - started_at >= _STEADY_SECONDS:
                self._backoff.reset()
            self._back_off(problem or "the camera closed the connection", received)
            self._on_reconnect()
        self._on_end(EndReason.STOPPED, None)

    def give_up(self, problem: str) -> None:
        """Close this connection and open another, because of a problem. Any thread may call it."""
        self._given_up = problem

    def _is_over(self, received: int, problem: str | None) -> bool:
        goes_round = self._camera.loop and problem is None and received > 0
        return self.facts.is_recording and not goes_round

    def _goes_on_as_jpegs(self, outcome: _Outcome) -> bool:
        """Tell FFmpeg to look for JPEGs only, if it cannot follow the parts of an MJPEG stream.

        Some cameras send no first boundary, or a wrong length of each picture.
        """
        web = self.facts.web
        is_mjpeg = web is not None and web.kind == "mjpeg"
        if not is_mjpeg or self._format is not None or outcome.received > _FEW_PICTURES:
            return False
        if outcome.received == 0 and not outcome.is_invalid:
            return False
        self._format = "mjpeg"
        _log.warning(
            "camera %s: its MJPEG stream has wrong boundaries or lengths; reading its JPEGs without"
            " them",
            self._camera.id,
            extra={"camera": self._camera.id},
        )
        return True

    def _resumes_recording(self, outcome: _Outcome) -> bool:
        """Open a recording on the web again where reading broke off, after a pause."""
        is_on_web = self.facts.is_recording and not self._camera.is_file
        if not is_on_web or outcome.problem is None:
            return False
        if outcome.is_invalid or self._resumes >= _MAX_RESUMES:
            return False
        self._resumes += 1
        self._back_off(outcome.problem, outcome.received)
        self._on_reconnect()
        return True

    def _one_connection(self) -> Generator[CodedPacket, None, _Outcome]:
        """Yield the packets of one connection, up to its end; whatever happens is explained."""
        self._given_up = None
        self._received = 0
        started_at = time.monotonic()
        is_invalid = False
        try:
            with open_camera(
                self._camera, self._config, self.facts, format_name=self._format
            ) as container:
                problem = yield from self._read(container)
        except MediaError as error:
            # Without a cause, it was opened and has no video.
            is_invalid = isinstance(error.__cause__, InvalidDataError | None)
            seconds = time.monotonic() - started_at
            problem = explain_failure(self._camera, self._config, error, seconds)
        except ExitError:
            problem = f"silent for {self.facts.read_timeout_seconds:g} s"
        except (FFmpegError, OSError, IndexError, ValueError) as error:
            is_invalid = isinstance(error, InvalidDataError)
            problem = f"read error after {self._received} packets: {explain(error)}"
        except Exception as error:  # the edge of the connection: the next one may work
            _log.exception(
                "camera %s: unexpected error", self._camera.id, extra={"camera": self._camera.id}
            )
            problem = f"unexpected error ({type(error).__name__}), see the log"
        return _Outcome(self._received, problem, is_invalid)

    def _read(self, container: Any) -> Generator[CodedPacket, None, str | None]:
        """Yield the packets of an open container; returns what went wrong, None if it ended."""
        stream = video_stream(container)
        if self.facts.is_recording and self._known.latest is not None:
            with contextlib.suppress(FFmpegError):
                container.seek(self._known.latest, stream=stream)
        pacing = self._pacing()
        dates = self._stream_clock()
        last_any = last_video = time.monotonic()
        clock: PacketClock = "stream"
        # All streams are read: a video that stands still while audio goes on must be noticed.
        for packet in container.demux():
            if self._stop.is_set():
                return None
            if self._given_up is not None:
                return self._given_up
            waited, last_any = time.monotonic() - last_any, time.monotonic()
            if self._received and self._is_silence(waited):
                # FFmpeg hands on what it still held, and would wait as long again.
                return f"silent for {self.facts.read_timeout_seconds:g} s"
            if packet.stream_index != stream.index:
                if self._is_without_video(last_video):
                    seconds = self.facts.read_timeout_seconds
                    return f"no video for {seconds:g} s, though other data comes"
                continue
            last_video = time.monotonic()
            if packet.size:
                if self._received == 0:
                    self._on_state("running", "")
                    clock = choose_clock(self.facts, container, packet)
                self._received += 1
            coded = self._coded(packet, pacing, dates, clock)
            last_video = time.monotonic()
            yield coded
            last_any = time.monotonic()  # the time until here was not the camera's
        return None

    def _coded(
        self, packet: Any, pacing: Pacing | None, dates: StreamClock | None, clock: PacketClock
    ) -> CodedPacket:
        """Wait until a packet is due; date it, and tell whether it was read before."""
        repeated = self._known.has(packet)
        arrived = time.monotonic() if pacing is None or repeated else pacing.arrival(packet)
        wall = wall_seconds(packet, arrived, self._config.camera_clock_seconds)
        if dates is not None and packet.dts is not None:
            wall = dates.date(float(packet.dts * packet.time_base), wall)
        if not self._camera.is_file and (self.facts.is_recording or self.facts.is_hls):
            self._known.add(packet)
        if not repeated:
            self._resumes = 0
        return CodedPacket(packet, arrived, wall, clock=clock, repeated=repeated)

    def _pacing(self) -> Pacing | None:
        is_paced = self.facts.is_recording and self._camera.pace == "realtime"
        if not is_paced and not self.facts.is_hls:
            return None
        return Pacing(
            max_behind_seconds=self._config.max_queue_seconds,
            stop=self._stop,
            on_rest=self._on_rest,
        )

    def _is_without_video(self, last_video: float) -> bool:
        silent = time.monotonic() - last_video
        return not self.facts.is_recording and silent > self.facts.read_timeout_seconds

    def _is_silence(self, waited: float) -> bool:
        return self._camera.kind == "network" and waited >= self.facts.read_timeout_seconds

    def _stream_clock(self) -> StreamClock | None:
        playlist = self.facts.web.playlist if self.facts.is_hls and self.facts.web else None
        return None if playlist is None else StreamClock(playlist.behind_seconds)

    def _back_off(self, problem: str, received: int) -> None:
        self._on_state("stalled" if received else "offline", problem)
        self._on_rest(True)
        self._stop.wait(self._backoff.next_seconds())
        self._on_rest(False)
