"""Build what runs the cameras from the configuration: decoders, workers, supervisor, manager."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from configs import ConfigError, MediaError
from model.checkpoints.weights import ModelSpec
from model.media.nvdec import decoder_caps, nvdec_module, why_not_nvdec
from stream.analysis.inbox import Inbox
from stream.cameras.checks import check_camera, check_room
from stream.cameras.config import CameraConfig
from stream.cameras.manager import CameraManager
from stream.cameras.not_taken import NotTaken
from stream.cameras.overrides import CameraOverrides
from stream.cameras.shared_manager import SharedCameraManager
from stream.cameras.supervisor import Supervisor
from stream.cameras.worker_threads import WorkerThreads
from stream.config import StreamConfig, allowed_files, max_views
from stream.ingest.camera_worker import CameraWorker
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decode_stage import DecodeStage
from stream.ingest.decoder_pool import DecoderPool, open_pool
from stream.ingest.handle import Outlet
from stream.ingest.pushed_camera import PushedCamera
from stream.ingest.pushed_frames import PushedFrames
from stream.metrics import Metrics
from stream.worker_metrics import NotTakenReason

__all__ = [
    "CameraDecoders",
    "build_manager",
    "build_supervisor",
    "check_decoders",
    "nvdec_problem",
]

_log = logging.getLogger(__name__)


def nvdec_problem(device: torch.device) -> str:
    """Say why NVDEC cannot be used with a network on this device; an empty string if it can."""
    if device.type != "cuda":
        return f"the network runs on the device {device.type}"
    if problem := why_not_nvdec():
        return problem
    gpu = torch.cuda.current_device() if device.index is None else device.index
    try:
        decoder_caps(nvdec_module(), gpu=gpu, codec="h264", bit_depth=8)
    except MediaError as error:  # the driver does not answer
        return str(error)
    return ""


def check_decoders(config: StreamConfig, cameras: Iterable[CameraConfig], problem: str) -> None:
    """Check that NVDEC can be used if it was asked for by name.

    Args:
        problem: why NVDEC cannot be used; an empty string if it can.

    Raises:
        ConfigError: it cannot be used; the message has the remedy.
    """
    sources: list[tuple[str, SourceConfig | None]] = [("", config.source)]
    sources += [(f"camera {camera.id}: ", camera.source) for camera in cameras]
    for place, source in sources:
        if problem and source is not None and source.decoder == "nvdec":
            raise ConfigError(
                f"{place}source.decoder: nvdec cannot be used: {problem}. Install"
                ' "cidc-stream[gpu]" on a machine with an NVIDIA GPU, give a container the driver'
                " capability video, or use source.decoder: auto"
            )


class CameraDecoders:
    """The decoders of one pipeline's cameras: NVDEC, DALI, or software in each camera's thread.

    Args:
        cameras: those that must be able to start.
        device: of the network.
        stack: closes the GPU's decoders at the end.

    Attributes:
        dali: DALI's thread; started and stopped by the pipeline.
        pool: NVDEC's decoders; None if NVDEC cannot be used.

    Raises:
        ConfigError: see `check_decoders`.
    """

    def __init__(
        self,
        config: StreamConfig,
        cameras: Iterable[CameraConfig],
        device: torch.device,
        metrics: Metrics,
        stack: contextlib.ExitStack,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self.dali = DecodeStage.on(device)
        self.pool: DecoderPool | None = None
        try:
            self.pool = open_pool(device)
            self._problem = "" if self.pool is not None else nvdec_problem(device)
        except MediaError as error:
            self._problem = str(error)
        check_decoders(config, cameras, self._problem)
        if self.pool is not None:
            stack.callback(self.pool.close)
            _show(metrics, self.pool)
        elif device.type == "cuda":
            _log.warning("NVDEC does not decode packet by packet: %s", self._problem)

    def check(self, camera: CameraConfig) -> None:
        """Check that a camera can be decoded as it asks.

        Raises:
            ConfigError: see `check_decoders`.
        """
        check_decoders(self._config, [camera], self._problem)

    def worker(
        self, spec: ModelSpec, threads: WorkerThreads, outlet: Outlet, pushed: PushedFrames
    ) -> CameraWorker | PushedCamera:
        """Make the worker of a camera, for one opening.

        Args:
            pushed: brings frames to cameras whose frames a program pushes.
        """
        camera = threads.status.camera
        config = self._config
        settings: dict[str, Any] = {
            "source": camera.source or config.source,
            "clip": _clip_settings(config, camera),
            "metrics": self._metrics,
            "outlet": outlet,
            "short_side": _short_side(config, spec, camera),
        }
        if camera.kind == "push":
            opens: dict[str, Any] = {"on_open": pushed.open, "on_close": pushed.close}
            return PushedCamera(threads, **settings, **opens)
        return CameraWorker(threads, **settings, decoding=self.dali, pool=self.pool)


def build_supervisor(
    config: StreamConfig,
    metrics: Metrics,
    run: Callable[[WorkerThreads], None],
    inbox: Inbox,
) -> Supervisor:
    """The supervisor of the cameras, without cameras."""
    return Supervisor(
        config.source,
        metrics,
        run,
        inbox.put,
        blind_after_seconds=config.clip.blind_after_seconds,
    )


def build_manager(
    config: StreamConfig,
    spec: ModelSpec,
    metrics: Metrics,
    supervisor: Supervisor,
    overrides: CameraOverrides,
    cameras: Sequence[CameraConfig],
    *,
    check_decoder: Callable[[CameraConfig], None] = lambda camera: None,
) -> CameraManager:
    """The manager of the cameras, with all that exist from the start.

    Args:
        check_decoder: raises `ConfigError` if a camera's decoder cannot be used.
    """
    allowed = allowed_files(config)

    def check(camera: CameraConfig) -> None:
        check_camera(camera, spec, allowed)
        check_decoder(camera)

    kind = CameraManager if config.cameras_from.topic is None else SharedCameraManager
    manager = kind(
        supervisor,
        overrides,
        metrics,
        max_views=max_views(config),
        shared={"events": config.events, "source": config.source},
        check=check,
    )
    unusable = _unusable(config, check, overrides, cameras, manager.not_taken)
    manager.load(cameras, unusable)
    return manager


def _unusable(
    config: StreamConfig,
    check: Callable[[CameraConfig], None],
    overrides: CameraOverrides,
    cameras: Sequence[CameraConfig],
    not_taken: NotTaken,
) -> dict[str, str]:
    """Why cameras that were added or changed over HTTP cannot be started; the others start."""
    usable = overrides.unchanged(cameras)
    problems: dict[str, str] = {}
    for camera in (camera for camera in cameras if overrides.changed(camera.id)):
        reason: NotTakenReason = "unusable"
        try:
            check(camera)
            reason = "no_slot"
            check_room(camera, usable, max_views(config))
        except ConfigError as error:
            problems[camera.id] = str(error)
            not_taken.note(camera.id, reason, str(error))
            about = {"camera": camera.id}
            _log.error("camera %s cannot be started: %s", camera.id, error, extra=about)
        else:
            usable.append(camera)
    return problems


def _show(metrics: Metrics, pool: DecoderPool) -> None:
    """Let the gauges ask the pool: the summary reads them where nobody scrapes metrics."""
    metrics.open_decoders.labels("nvdec").set_function(lambda: pool.open_decoders)
    metrics.decoder_threads_abandoned.set_function(lambda: pool.abandoned)


def _clip_settings(config: StreamConfig, camera: CameraConfig) -> ClipConfig:
    if camera.max_gap_seconds is None:
        return config.clip
    return config.clip.model_copy(update={"max_gap_seconds": camera.max_gap_seconds})


def _short_side(config: StreamConfig, spec: ModelSpec, camera: CameraConfig) -> int:
    """Pixels that suffice for the camera's smallest region, and for pictures of events."""
    enough = math.ceil(spec.preprocess.live_short_side / camera.smallest_fraction)
    return max(enough, config.snapshots.width) if config.snapshots.enabled else enough
