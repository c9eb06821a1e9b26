"""Why a camera on the network could not be opened, in words that say what to do.

FFmpeg turns the status of an RTSP or HTTP answer into an error of its own; of most statuses it
keeps only the class (4XX or 5XX). It reports RTSP status 461 of a SETUP as `Protocol not
supported`.
"""

from __future__ import annotations

import errno
import urllib.parse

from av import error as ffmpeg

from configs import MediaError
from stream.cameras.config import CameraConfig, redact_url

__all__ = ["explain_answer"]

_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}


def explain_answer(camera: CameraConfig, error: MediaError) -> str:
    """Say in one line what a camera or the network answered, and the remedy if one is known.

    Args:
        error: what `open_container` raised; its cause is FFmpeg's error.
    """
    parts = urllib.parse.urlsplit(camera.url)
    cause = error.__cause__
    is_rtsp = parts.scheme in ("rtsp", "rtsps")
    if is_rtsp and getattr(cause, "errno", None) == errno.EPROTONOSUPPORT:
        return _unsupported_transport(camera)
    if isinstance(cause, ffmpeg.HTTPOtherClientError):
        return _other_refusal(camera) if is_rtsp else "the server refused the request (4XX)"
    remedy = _remedy(camera, parts, cause)
    return f"{error}; {remedy}" if remedy else str(error)


def _unsupported_transport(camera: CameraConfig) -> str:
    other = "udp" if camera.transport == "tcp" else "tcp"
    return (
        f"the camera does not send RTSP over {camera.transport} (461 Unsupported Transport); try"
        f" {other}: set the camera's transport: {other}"
    )


def _other_refusal(camera: CameraConfig) -> str:
    other = "udp" if camera.transport == "tcp" else "tcp"
    return (
        "the camera refused the request with a 4XX status; 453 Not Enough Bandwidth: too many"
        f" clients, close one; 461 Unsupported Transport: try {other} (the camera's transport);"
        " otherwise check the path"
    )


def _remedy(
    camera: CameraConfig, parts: urllib.parse.SplitResult, cause: BaseException | None
) -> str | None:
    if isinstance(cause, ffmpeg.HTTPUnauthorizedError):
        if "@" not in parts.netloc:
            return f"it wants a login: write {parts.scheme}://user:password@host/path"
        return "check user name and password in the address (%23 for #, %40 for @, %2F for /)"
    if isinstance(cause, ffmpeg.HTTPForbiddenError):
        return "check the rights of this user, and whether the camera lets this machine in"
    if isinstance(cause, ffmpeg.HTTPNotFoundError):
        path = urllib.parse.urlsplit(redact_url(camera.url)).path or "/"
        return f"the host answers, but has nothing at the path {path}; check the path"
    if isinstance(cause, ffmpeg.HTTPBadRequestError):
        return "check path and query of the address"
    if isinstance(cause, ffmpeg.HTTPTooManyRequestsError):
        return "too many requests; close other clients"
    if isinstance(cause, ffmpeg.HTTPServerError):
        return "the camera has a fault of its own (503: too many clients); close other clients"
    if isinstance(cause, ConnectionRefusedError):
        port = parts.port or _PORTS.get(parts.scheme)
        return f"nothing listens on port {port} of {parts.hostname}; check the port"
    if getattr(cause, "errno", None) in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"there is no route to {parts.hostname}; check address and network"
    hung_up = isinstance(cause, EOFError | ConnectionResetError)
    if parts.scheme in ("rtmp", "rtmps") and (
        hung_up or (parts.scheme == "rtmp" and getattr(cause, "errno", None) == errno.EIO)
    ):
        return (
            "the server ended the connection; check application and name of the stream, and"
            " whether something publishes it"
        )
    if parts.scheme in ("rtsps", "rtmps", "https") and getattr(cause, "errno", None) == errno.EIO:
        plain = parts.scheme.removesuffix("s")
        return (
            f"the TLS connection failed; check that this port speaks TLS (otherwise {plain}://) and"
            " that source.tls_ca_file signed its certificate"
        )
    return None
