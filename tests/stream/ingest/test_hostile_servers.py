"""Servers of cameras that try to reach other files, other hosts or too many sockets."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from configs import MediaError
from stream.cameras.config import CameraConfig
from stream.ingest.connection import find_facts, open_camera, with_zone_index
from stream.ingest.rtsp_redirects import check_redirects
from stream.ingest.web_client import WebClient
from tests.support.chaos import TcpCamera
from tests.support.live_cameras import QUICK, seen
from tests.support.scripted_rtsp import RtspAnswer, ScriptedRtsp, redirect
from tests.support.waiting import until
from tests.support.web import LiveHls, send, video_bytes, web_server

REDIRECTS = QUICK.model_copy(update={"redirects": True})


def attempt(url: str, transport: str = "tcp") -> str:
    """Open a camera as its worker does; return the error, empty if it opens."""
    camera = CameraConfig.model_validate({"id": "a", "url": url, "transport": transport})
    try:
        facts = find_facts(camera, QUICK)
        assert facts is not None
        open_camera(camera, QUICK, facts).close()
    except MediaError as error:
        return str(error)
    return ""


def descriptors() -> int:
    """Return the number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def body_server(body: bytes) -> TcpCamera:
    """Serve bytes over TCP to everyone."""

    def serve(client: socket.socket, stop: threading.Event) -> None:
        client.sendall(body)
        stop.wait(2)

    return TcpCamera(serve)


def sdp(media: int) -> str:
    """Describe this many video streams."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=many", "c=IN IP4 127.0.0.1", "t=0 0"]
    for number in range(media):
        lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", f"a=control:track{number}"]
    return "\r\n".join([*lines, ""])


@pytest.mark.parametrize("kind", ["concat", "sdp", "hls"])
def test_lists_of_other_addresses_are_refused_after_one_request(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(video_bytes(1.0))
    requests: list[str] = []
    bodies = {
        "sdp": sdp(300),
        "hls": f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n",
    }

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        own = f"http://{request.headers['Host']}/a"
        text = bodies.get(kind, f"ffconcat version 1.0\nfile {own}\nfile {own}\n")
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        request.wfile.write(text.encode())

    before = descriptors()
    with web_server(answer) as address:
        says = attempt(f"{address}/a")
        # FFmpeg takes a playlist with this content type for nothing at all.
        assert ("Input/output error" if kind == "hls" else "not a video stream") in says
        assert len(requests) == 2  # the question what lies there, and the opening
    assert until(lambda: descriptors() <= before + 1)


@pytest.mark.parametrize("path", ["", "/x.m3u8", "/x.ffconcat", "/x.sdp"])
def test_lists_over_tcp_are_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(video_bytes(1.0))
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile:{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile {tmp_path}/secret.ts\n"
    for text in (playlist, concat, sdp(300)):
        with body_server(text.encode()) as camera:
            assert "cannot open" in attempt(camera.url + path)


def test_few_sockets_are_opened_for_the_streams_of_an_rtsp_server() -> None:
    def answer(method: str, headers: Mapping[str, str]) -> RtspAnswer:
        if method == "DESCRIBE":
            return RtspAnswer(headers={"Content-Type": "application/sdp"}, body=sdp(300))
        if method == "SETUP":
            peak.append(descriptors())
            ports = headers["transport"].rpartition("client_port=")[2]
            transport = f"RTP/AVP/UDP;unicast;client_port={ports};server_port=6000-6001"
            return RtspAnswer(headers={"Session": "1", "Transport": transport})
        return RtspAnswer()

    peak = [descriptors()]
    with ScriptedRtsp(answer) as server:
        attempt(server.address(), transport="udp")
    assert len(peak) > 10  # the attack works that far
    assert max(peak) < peak[0] + 80


@pytest.mark.parametrize("first", ["redirect", "login"])
def test_rtsp_redirects_to_other_hosts_do_not_get_the_login(first: str) -> None:
    with ScriptedRtsp(lambda *_: RtspAnswer("404 Not Found")) as other:

        def answer(method: str, headers: Mapping[str, str]) -> RtspAnswer:
            if first == "login" and "authorization" not in headers:
                return RtspAnswer("401 Unauthorized", {"WWW-Authenticate": 'Basic realm="a"'})
            return redirect(other.address(host="localhost"))

        with ScriptedRtsp(answer) as camera:
            assert "redirects to another host, localhost" in attempt(
                camera.address(login="user:secret@")
            )
    assert other.requests == []


@pytest.mark.parametrize("scheme", ["http", "file", "tcp"])
def test_rtsp_redirects_to_other_schemes_are_refused(scheme: str) -> None:
    with (
        ScriptedRtsp(lambda *_: redirect(f"{scheme}://127.0.0.1/etc/passwd")) as camera,
        pytest.raises(MediaError, match="another host"),
    ):
        check_redirects(camera.address(), QUICK)


def test_rtsp_redirects_on_the_same_host_are_followed() -> None:
    with ScriptedRtsp(lambda *_: RtspAnswer()) as other:
        with ScriptedRtsp(lambda *_: redirect(other.address())) as camera:
            check_redirects(camera.address(), QUICK)
        assert other.requests


def test_an_rtsp_server_that_redirects_to_itself_for_ever_is_left() -> None:
    servers: list[ScriptedRtsp] = []
    with ScriptedRtsp(lambda *_: redirect(servers[0].address())) as camera:
        servers.append(camera)
        with pytest.raises(MediaError, match="again and again"):
            check_redirects(camera.address(), QUICK)
        # Also if only FFmpeg is treated so: the time for opening ends it.
        config = CameraConfig.model_validate({"id": "a", "url": camera.address()})
        quick = QUICK.model_copy(update={"open_timeout_seconds": 0.5})
        facts = find_facts(config, REDIRECTS)
        assert facts is not None
        with pytest.raises(MediaError):
            open_camera(config, quick, facts)


def test_digest_logins_are_answered_before_a_redirect_is_looked_for() -> None:
    """The hash of RFC 2617, computed by hand, with another library."""
    import hashlib

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    def answer(method: str, headers: Mapping[str, str]) -> RtspAnswer:
        sent = headers.get("authorization", "")
        if not sent:
            challenge = 'Digest realm="cam", nonce="abc"'
            return RtspAnswer("401 Unauthorized", {"WWW-Authenticate": challenge})
        wanted = md5(f"{md5('us:er'[:2] + ':cam:p@ss')}:abc:{md5(f'{method}:{plain}')}")
        logins.append(f'response="{wanted}"' in sent)
        return RtspAnswer()

    logins: list[bool] = []
    with ScriptedRtsp(answer) as camera:
        plain = camera.address()
        check_redirects(camera.address(login="us:p%40ss@"), QUICK)
    assert logins == [True, True]


@pytest.mark.parametrize("where", ["first", "later"])
def test_web_redirects_to_other_hosts_are_not_followed(where: str) -> None:
    asked: list[str] = []
    body = video_bytes(2.0)

    def internal(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        send(request, body, "video/mp2t")

    def camera(request: http.server.BaseHTTPRequestHandler) -> None:
        if where == "later" and "Range" in request.headers and "Lavf" not in str(request.headers):
            request.send_response(200)
            request.send_header("Content-Type", "video/mp2t")
            request.end_headers()
            return
        request.send_response(302)
        request.send_header("Location", other.replace("127.0.0.1", "localhost") + "/x")
        request.end_headers()

    with web_server(internal) as other, web_server(camera) as address:
        assert attempt(f"{address}/a.ts") != ""
        assert asked == []
        with seen(f"{address}/a.ts", REDIRECTS) as watched:
            assert until(lambda: asked != []), watched.states


def test_web_redirects_on_the_same_host_are_followed_with_the_login() -> None:
    logins: list[str | None] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path != "/real.ts":
            request.send_response(302)
            request.send_header("Location", "/real.ts")
            request.end_headers()
        elif "Authorization" not in request.headers:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="a"')
            request.end_headers()
        else:
            logins.append(request.headers["Authorization"])
            request.send_response(200)
            request.send_header("Content-Type", "video/mp2t")
            request.end_headers()
            request.wfile.write(body)

    body = video_bytes(2.0)
    with web_server(answer) as address:
        url = address.replace("//", "//user:secret@") + "/a.ts"
        with seen(url) as watched:
            assert until(lambda: len(watched.frames) > 10), watched.states
    assert set(logins) == {"Basic dXNlcjpzZWNyZXQ="}


@pytest.mark.parametrize("what", ["segment", "file", "master"])
def test_playlists_reach_no_other_host_and_no_file(what: str, tmp_path: Path) -> None:
    asked: list[str] = []
    body = video_bytes(2.0)
    (tmp_path / "secret.ts").write_bytes(body)

    def internal(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        send(request, body, "video/mp2t")

    def camera(request: http.server.BaseHTTPRequestHandler) -> None:
        elsewhere = other.replace("127.0.0.1", "localhost")
        target = f"file://{tmp_path}/secret.ts" if what == "file" else f"{elsewhere}/secret.ts"
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{target}\n"
        if what == "master":
            text = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n"
        send(request, text.encode(), "application/vnd.apple.mpegurl")

    with web_server(internal) as other, web_server(camera) as address:
        says = attempt(f"{address}/live.m3u8")
        assert "another host, localhost" in says or "of type 'file'" in says
        assert asked == []


def test_hls_is_read_where_its_host_redirects_to() -> None:
    live = LiveHls(seconds=1, segments=12)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/a.m3u8":
            request.send_response(302)
            request.send_header("Location", "/deep/live.m3u8")
            request.end_headers()
        elif not request.path.startswith("/deep/"):
            request.send_error(404)
        else:
            request.path = request.path.removeprefix("/deep")
            live.answer(request)

    with web_server(answer) as address, seen(f"{address}/a.m3u8") as watched:
        assert until(lambda: len(watched.frames) >= 15, 20), watched.states


def test_hls_goes_on_after_a_segment_that_is_missing() -> None:
    live = LiveHls(seconds=1, segments=12)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/3.ts":
            request.send_error(404)
        else:
            live.answer(request)

    with web_server(answer) as address, seen(f"{address}/live.m3u8") as watched:
        assert until(lambda: len(watched.frames) >= 6 * 15, 30), watched.states
        assert watched.metrics.total(watched.metrics.reconnects) == 0


def test_the_zone_of_an_ipv6_address_is_written_as_a_number() -> None:
    index = socket.if_nametoindex("lo")
    assert with_zone_index("tcp://[fe80::1%25lo]:5/a") == f"tcp://[fe80::1%{index}]:5/a"
    assert with_zone_index("rtsp://u:%25lo]@h/[::1%25lo]") == "rtsp://u:%25lo]@h/[::1%25lo]"
    with pytest.raises(MediaError, match="has no network interface none0"):
        with_zone_index("rtsp://u:p@[fe80::1%25none0]/a")


@pytest.mark.parametrize(
    ("given", "answered", "shown"),
    [
        ("http://u:p@cam/a", "http://cam/b", "http://u:p@cam/b"),
        ("http://u:p@cam:81/a", "https://cam/b?c", "https://u:p@cam/b?c"),
        ("http://u:p@cam/a", "http://evil/b", "http://evil/b"),
        ("http://u:p@cam/a", "http://cam@evil/b", "http://cam@evil/b"),
        ("http://cam/a", "http://cam/b", "http://cam/b"),
    ],
)
def test_a_login_stays_on_its_host(given: str, answered: str, shown: str) -> None:
    assert WebClient(given, QUICK, 1.0).with_login(answered) == shown


@pytest.mark.parametrize(
    ("given", "asked", "says"),
    [
        ("http://cam/a", "http://cam:99/b", None),
        ("http://cam/a", "https://cam/b", None),
        ("https://cam/a", "http://cam/b", "https to http"),
        ("http://cam/a", "http://10.0.0.1/b", "another host, 10.0.0.1"),
        ("http://cam/a", "http://cam@10.0.0.1/b", "another host, 10.0.0.1"),
        ("http://cam/a", "file:///etc/passwd", "type 'file'"),
        ("http://cam/a", "ftp://cam/a", "type 'ftp'"),
        ("http://cam/a", "//cam/a", "type ''"),
    ],
)
def test_which_addresses_a_web_client_asks(given: str, asked: str, says: str | None) -> None:
    client = WebClient(given, QUICK, 1.0)
    if says is None:
        client.check(asked)
        return
    with pytest.raises(MediaError, match=says):
        client.check(asked)
