"""The threads that run one camera from one opening to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stream.cameras.status import CameraStatus

__all__ = ["WorkerThreads"]


class WorkerThreads:
    """The threads of one opening of a camera; setting `stop` asks them to end.

    Args:
        generation: of this opening, higher than that of every earlier one.
    """

    def __init__(self, status: CameraStatus, generation: int) -> None:
        self.status = status
        self.generation = generation
        self.stop = threading.Event()
        self.resting = False  # between two connections, or until a file's next packet is due
        self._threads: list[threading.Thread] = []

    @property
    def camera_id(self) -> str:
        """The camera's name."""
        return self.status.camera.id

    def spawn(self, run: Callable[[], None], name: str) -> None:
        """Run something in a thread of this worker.

        Raises:
            RuntimeError: the system has no thread left.
        """
        thread = threading.Thread(target=run, name=f"{name}-{self.camera_id}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def is_alive(self) -> bool:
        """Whether any of the threads runs."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the threads; whether all have ended."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()
