"""What is said of a camera that refuses: the status is explained, with a remedy."""

import socket
import threading
import time

import pytest

from configs import MediaError
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.connection import SourceFacts, explain_failure, open_camera

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)
METHODS = ("OPTIONS", "DESCRIBE", "SETUP")


def answer(server: socket.socket, status: int, refused: str) -> None:
    """Serve one RTSP client; refuse one method with the status."""
    client, _ = server.accept()
    with client:
        while request := client.recv(4096).decode():
            number = next(line for line in request.split("\r\n") if line.startswith("CSeq"))
            method = request.split()[0]
            extra, body = "", ""
            if method == refused or method not in METHODS:
                head = f"RTSP/1.0 {status} Refused"
            else:
                head = "RTSP/1.0 200 OK"
            if method == "DESCRIBE" and method != refused:
                extra = f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n"
                body = SDP
            client.sendall(f"{head}\r\n{number}\r\n{extra}\r\n{body}".encode())


def problem(address: str, **settings: str) -> str:
    camera = CameraConfig(id="a", url=address, **settings)
    config = SourceConfig(open_timeout_seconds=20)
    started_at = time.monotonic()
    with pytest.raises(MediaError) as raised:
        open_camera(camera, config, SourceFacts(False, config.read_timeout_seconds))
    return explain_failure(camera, config, raised.value, time.monotonic() - started_at)


@pytest.mark.parametrize(
    ("status", "refused", "transport", "says"),
    [
        (461, "SETUP", "tcp", "461 Unsupported Transport); try udp"),
        (461, "SETUP", "udp", "461 Unsupported Transport); try tcp"),
        (461, "DESCRIBE", "tcp", "461 Unsupported Transport: try udp"),
        (453, "SETUP", "tcp", "453 Not Enough Bandwidth: too many clients"),
        (401, "DESCRIBE", "tcp", "401 Unauthorized (authorization failed); check user name and"),
        (403, "DESCRIBE", "tcp", "check the rights of this user"),
        (404, "DESCRIBE", "tcp", "nothing at the path /live; check the path"),
        (400, "DESCRIBE", "tcp", "check path and query"),
        (503, "SETUP", "tcp", "503: too many clients"),
    ],
)
def test_the_answer_of_an_rtsp_server_is_explained(
    status: int, refused: str, transport: str, says: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server, status, refused), daemon=True).start()
        port = server.getsockname()[1]
        said = problem(f"rtsp://us:SECRET@127.0.0.1:{port}/live?pass=SECRET", transport=transport)
    assert says in said
    assert "SECRET" not in said


def test_a_camera_that_wants_a_login_and_got_none_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server, 401, "DESCRIBE"), daemon=True).start()
        said = problem(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live")
    assert "rtsp://user:password@host/path" in said


def test_a_port_where_nothing_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = problem(f"rtsp://u:p@127.0.0.1:{port}/live")
    assert "Connection refused" in said
    assert f"nothing listens on port {port} of 127.0.0.1" in said


def test_a_port_without_tls_is_named() -> None:
    def refuse(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(b"RTSP/1.0 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse, args=(server,), daemon=True).start()
        said = problem(f"rtsps://127.0.0.1:{server.getsockname()[1]}/live")
    assert "check that this port speaks TLS (otherwise rtsp://)" in said


def test_a_host_is_named_that_does_not_exist_also_beside_an_at_sign_in_the_path() -> None:
    said = problem("rtsp://no-such-host.invalid/live@127.0.0.1")
    assert said == "no such host: no-such-host.invalid"
