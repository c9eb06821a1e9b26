"""The FFmpeg program that reads SRT, and the command that starts it.

PyAV's FFmpeg has no SRT, so a program of its own receives it. The program is the one of the package
imageio-ffmpeg (extra `srt`), or the one that the setting `source.ffmpeg` names; nothing else is
started, whatever the search path and the environment say.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, cast

from configs import MediaError
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig

__all__ = ["find_program", "program_problems", "start_program"]

_PACKAGE = "imageio_ffmpeg"
# Asks the kernel to kill this process when the thread that started it ends, however it ends, then
# becomes the program. PR_SET_PDEATHSIG is 1, SIGKILL is 9; exec keeps both.
_LAUNCHER = """\
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0) or os.getppid() != int(sys.argv[1]):
    sys.exit(70)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_program(config: SourceConfig) -> Path:
    """Return the path of the FFmpeg program.

    Raises:
        MediaError: there is none; the message has the remedy.
    """
    if config.ffmpeg is not None:
        return config.ffmpeg
    package = importlib.util.find_spec(_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for path in sorted((Path(folder) / "binaries").glob("ffmpeg-*")):
            if path.is_file() and os.access(path, os.X_OK):
                return path
    raise MediaError(
        "SRT needs an FFmpeg program; install the extra srt, or name a program in source.ffmpeg"
    )


def program_problems(config: SourceConfig, cameras: Iterable[CameraConfig]) -> list[str]:
    """Say which cameras have an SRT address that no program can read.

    Args:
        config: the section `source` of all cameras.
    """
    problems = []
    for camera in cameras:
        if camera.url.startswith("srt:"):
            try:
                find_program(camera.source or config)
            except MediaError as error:
                problems.append(f"camera {camera.id}: {error}")
    return problems


def start_program(program: Path, arguments: Sequence[str], script: str) -> subprocess.Popen[bytes]:
    """Start the program with a script on its standard input; its output can be read from pipes.

    The kernel kills it when the calling thread ends, also if this process is killed. It gets an
    empty environment: FFREPORT, for example, would make it write its log to a file.

    Raises:
        OSError: it cannot be started.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
    process = subprocess.Popen(
        [*launcher, str(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C"},
        cwd="/",
        bufsize=0,
    )
    # A program that has ended already takes no script; its other pipes say why.
    with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as script_pipe:
        script_pipe.write(script.encode())  # shorter than a pipe: it does not wait
    return process
