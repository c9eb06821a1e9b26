"""A real RTSP server for tests: GStreamer's, run by Debian's Python in a process of its own.

As a script (`/usr/bin/python3 rtsp.py PORT LOGIN /mount=FILE ... /once!=FILE`): serves files in
real time, over and over or, with `!`, once: H.264 in MP4, VP9 in WebM, MJPEG in AVI. LOGIN is
`user:password`, or empty for everybody.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"
REMEDY = (
    "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0"
    " gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
# By the ending of the file: how to read it, and how to send it.
_KINDS = {
    ".mp4": ("qtdemux ! video/x-h264", "rtph264pay pt=96 config-interval=-1"),
    ".webm": ("matroskademux ! video/x-vp9", "rtpvp9pay pt=96"),
    ".avi": ("avidemux ! image/jpeg", "rtpjpegpay pt=26"),
}
IMPORTS = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtspServer
"""


def missing_rtsp() -> str | None:
    """Say why no RTSP server can run here, and what to install; None if one can."""
    try:
        done = subprocess.run([PYTHON, "-c", IMPORTS], capture_output=True, check=False)
    except FileNotFoundError:
        return f"no RTSP server: {PYTHON} is missing; {REMEDY}"
    return None if done.returncode == 0 else f"no RTSP server: {REMEDY}"


class RtspServer:
    """The server process.

    Args:
        mounts: the file of each path; `/path` is looped, `/path!` is played once.
        login: `user:password`, or empty for everybody.
    """

    def __init__(self, mounts: dict[str, Path], login: str = "") -> None:
        self._mounts = mounts
        self._login = login
        self.port = 0

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, on the same port as before if there was one, and wait until it listens."""
        arguments = [f"{mount}={path}" for mount, path in self._mounts.items()]
        self.process = subprocess.Popen(
            [PYTHON, __file__, str(self.port), self._login, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("READY"), line
        self.port = int(line.split()[1])

    def kill(self) -> None:
        """Kill it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def url(self, mount: str) -> str:
        """Return the address of a mount."""
        return f"rtsp://127.0.0.1:{self.port}{mount}"


def serve(port: str, login: str, mounts: list[str]) -> None:
    """Run the server until the process is killed."""
    import gi

    for name in ("Gst", "GstApp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for mount in mounts:
        path, file = mount.split("=", 1)
        factory = _factory(file, not path.endswith("!"))
        if login:
            permissions = GstRtspServer.RTSPPermissions.new()
            for right in ("access", "construct"):
                permissions.add_permission_for_role("viewer", f"media.factory.{right}", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path.rstrip("!"), factory)
    if login:
        auth = GstRtspServer.RTSPAuth.new()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*login.split(":", 1)), token)
        server.set_auth(auth)
    if server.attach(None) == 0:
        sys.exit(f"cannot bind port {port}")
    print("READY", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


def _factory(file: str, loop: bool) -> Any:
    from gi.repository import Gst, GstRtspServer

    payloader = _KINDS[Path(file).suffix][1]
    caps, units, length = _access_units(file)

    class Factory(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
        def do_create_element(self, url: Any) -> Any:
            source = "appsrc name=src is-live=true format=time max-bytes=200000"
            return Gst.parse_launch(f"( {source} ! {payloader} name=pay0 )")

        def do_configure(self, media: Any) -> None:
            source = media.get_element().get_by_name_recurse_up("src")
            source.set_property("caps", caps)
            sent = iter(range(sys.maxsize))

            def need_data(source: Any, _length: int) -> None:
                turn, index = divmod(next(sent), len(units))
                if turn and not loop:
                    source.emit("end-of-stream")
                    return
                data, pts, dts, duration, key = units[index]
                buffer = Gst.Buffer.new_wrapped(data)
                buffer.pts = turn * length + pts
                buffer.dts = max(0, turn * length + dts)
                buffer.duration = duration
                if not key:
                    buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
                source.emit("push-buffer", buffer)

            source.connect("need-data", need_data)
            GstRtspServer.RTSPMediaFactory.do_configure(self, media)

    return Factory()


def _access_units(file: str) -> tuple[Any, list[tuple[bytes, int, int, int, bool]], int]:
    """Read the coded frames of a file, with their caps and the length of the file.

    A frame is (bytes, pts, dts, duration, is key); times are in nanoseconds.
    """
    from gi.repository import Gst, GstApp  # noqa: F401 - GstApp gives the sink its methods

    pipeline = Gst.parse_launch(
        f"filesrc name=f ! {_KINDS[Path(file).suffix][0]} ! appsink name=s sync=false max-buffers=0"
    )
    pipeline.get_by_name("f").set_property("location", file)
    sink = pipeline.get_by_name("s")
    pipeline.set_state(Gst.State.PLAYING)
    units = []
    caps = None
    while (sample := sink.try_pull_sample(5 * Gst.SECOND)) is not None:
        buffer = sample.get_buffer()
        segment = sample.get_segment()
        caps = sample.get_caps()
        offset = segment.base - segment.start
        dts = buffer.dts if buffer.dts != Gst.CLOCK_TIME_NONE else buffer.pts
        key = not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        data = buffer.extract_dup(0, buffer.get_size())
        units.append((data, buffer.pts + offset, dts + offset, buffer.duration, key))
    pipeline.set_state(Gst.State.NULL)
    if not units:
        sys.exit(f"no video in {file}")
    step = sorted(unit[3] for unit in units)[len(units) // 2]
    return caps, units, max(unit[1] for unit in units) + step


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3:])
