"""One worker process of `benchmarks.fleet`: a pipeline whose cameras get generated frames.

    python -m benchmarks.fleet_worker CONFIG TIMES FRAMES_PER_SECOND

Everything after the decoder is the real pipeline. The file TIMES gets a line whenever a camera is
opened or closed. CLOCK_MONOTONIC is the same in all processes of a machine.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import yaml

from stream.cameras.worker_threads import WorkerThreads
from stream.config import StreamConfig
from stream.pipeline import Pipeline
from stream.types import CameraOpened, SampledFrame, StreamItem

__all__ = ["InjectedWorker", "main"]

_GRID_FPS = 15.0
_SIDE = 32  # pixels


class InjectedWorker(Pipeline):
    """A worker that makes its frames itself, and notes when each of its cameras ran.

    Args:
        times: file of the notes.
        fps: frames per second that each camera delivers. Their times are those of the time grid.
    """

    def __init__(self, config: StreamConfig, times: Path, fps: float) -> None:
        self._fps = fps
        self._times = os.open(times, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        random = np.random.default_rng(0)
        self._frames_THWC = random.integers(0, 256, (64, _SIDE, _SIDE, 3), dtype=np.uint8)
        super().__init__(config)

    def run_camera(self, threads: WorkerThreads) -> None:
        """Put frames into the inbox until the camera is stopped."""
        camera = threads.status.camera
        threads.status.set_state("running")
        self._put(CameraOpened(camera, threads.generation), threads)
        started_at = time.monotonic()
        first = zlib.crc32(camera.id.encode()) % len(self._frames_THWC)
        for number in itertools.count():
            if threads.stop.wait(max(0.0, started_at + number / self._fps - time.monotonic())):
                break
            frame_HWC = self._frames_THWC[(first + number) % len(self._frames_THWC)]
            moment = number / _GRID_FPS
            frame = SampledFrame(camera.id, frame_HWC, moment, time.monotonic(), time.time())
            self._put(frame, threads)
            threads.status.touch()
            if number == 0:
                self._note("open", threads)
        if number > 0:
            self._note("close", threads)

    def _put(self, item: StreamItem, threads: WorkerThreads) -> None:
        self.inbox.put(item, threads.stop, threads.status.set_blocked)

    def _note(self, word: str, threads: WorkerThreads) -> None:
        line = f"{word} {threads.camera_id} {threads.generation} {time.monotonic():.6f}\n"
        os.write(self._times, line.encode())


def main() -> None:
    """Run until SIGTERM, or until the process that started this one is gone."""
    config, times, fps = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark ends its workers itself
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    settings = StreamConfig.model_validate(yaml.safe_load(Path(config).read_text()))
    with InjectedWorker(settings, Path(times), float(fps)) as pipeline:
        pipeline.run(stop)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
