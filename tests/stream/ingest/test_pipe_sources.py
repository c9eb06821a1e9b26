"""A camera that another program writes into a named pipe."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.live_cameras import seen
from tests.support.waiting import until
from tests.support.web import video_bytes


def test_a_camera_can_be_a_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with seen(str(pipe), pace="fast") as watched:
        with pipe.open("wb") as file:
            file.write(video_bytes(2.0))
        assert until(lambda: watched.status.state == "ended"), watched.states
        assert len(watched.frames) > 20
