"""Addresses of cameras: which are refused, to which host they lead, and what is shown of them."""

import base64
import contextlib
import json
import re
import socket
import threading
from pathlib import Path
from urllib.parse import quote

import av
import pytest
from av.error import FFmpegError
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError, check_tree, parse_config
from stream.cameras.address import check_address
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.cameras.redaction import redact_url
from stream.config import StreamConfig

MISTAKES = [
    ("rtsp://admin:12#34@host/1", "%23 for #"),
    ("rtsp://admin:#34@host/1", "%23 for #"),
    ("rtsp://admin#34@host/1", "%23 for #"),
    ("rtsp://admin:12#34@10.0.0.1:554/1", "%23 for #"),
    ("tcp://admin:1#34@host:99", "%23 for #"),
    ("rtsp://admin:12?34@host/1", "%3F for ?"),
    ("rtsp://admin:12?34@10.0.0.1", "%3F for ?"),
    ("rtsp://ad?min:34@host/1", "%3F for ?"),
    ("rtsp://admin:12?a=34@host/1", "%3F for ?"),
    ("rtsp://admin:12/34@host/1", "%2F for /"),
    ("rtsp://admin:/34@host", "%2F for /"),
    ("rtsp://ad/min:34@host/1", "%2F for /"),
    ("http://admin:a/34@host/x.mp4", "%2F for /"),
    ("rtsp://john.doe:12/34@10.0.0.1/1", "%2F for /"),
    ("rtsp://admin:12@34@host/1", "%40 for @"),
    ("rtsp://ad@min:34@host/1", "%40 for @"),
    ("rtsp://admin:12@34#x@host/1", "%23 for #, %40 for @"),
    ("rtsp://admin:12@34/x@10.0.0.1/1", "%2F for /, %40 for @"),
    ("rtsp://admin:12@34?x@host/1", "%3F for ?, %40 for @"),
    ("rtsp://admin:12%34%@host/1", "%25 for %"),
    ("rtsp://admin:12%zz34@host/1", "%25 for %"),
    ("rtsp://ad%min:34@host/1", "%25 for %"),
    ("rtsp://admin:12 34@host/1", "%20 for a space"),
    ("rtsp://DOMAIN\\admin:34@host/1", "%5C for \\"),
    ("rtsp://admin:[34]@host/1", "%5B for [, %5D for ]"),
    ("rtsp://u:12%4034%40host/1", "there is no @ after user name and password"),
    ("rtsp://admin%3A34%40host", "there is no @ after user name and password"),
    ("rtsp://h/a\tb", "control character"),
    ("rtsp://h/\x1b[2Ja", r"rtsp://h/\x1b[2Ja contains a control character; remove it"),
    ("rtsp://h/a\r\nX-Header: 1", "control character"),
    ("rtsp://u:34\x7f@h/a", "control character"),
    ("rtsp://u:3\n4@h/a\x9b", "control character"),
    ("rtsp://u:34@h/a\u2028b", r"\u2028b contains a control character"),
    ("rtsp://u:34@h/\u202emoc.a", "control character"),
    ("u:34@h/a\x1b", "control character"),
    ("file://u:34@h/a.mp4", "a file has no user name or password"),
    ("file://rtsp%3A//u:34@h/a", "names no file; write the path, or the address alone"),
    ("file:///a%0d%0ab.mp4", r"/a\r\nb.mp4 contains a control character"),
    ("videos/a\0b.mp4", r"videos/a\x00b.mp4 contains a control character"),
    *(
        (f"{scheme}://u{escape}v:34@h/a", "encoded control character")
        for scheme in ("rtsp", "http", "tcp")
        for escape in ("%0d%0aX:%201", "%00", "%1B", "%7f", "%C2%85", "%e2%80%ae")
    ),
    ("http://u:34%0A@h/a", "encoded control character"),
    ("tcp://h:1?listen", "remove it, and give the host and port that send the video"),
    ("tcp://u:34@h:1?a=b&%6cisten=1", "option listen"),
    ("tcp://h:1/#?listen=2", "option listen"),
    *(
        (f"udp://u:34@h:1?{option}", "fifo_size must be a whole number of packets")
        for option in (
            *("fifo_size=1000001", "a=b&%66ifo_size=9999999", "fifo_size=1e9", "fifo_size=1G"),
            *(
                "fifo_size=-1",
                "fifo_size=0",
                "fifo_size",
                "fifo_size=0x7fffffff",
                "fifo_size=%39e9",
            ),
        )
    ),
    ("rtmp://u:34@h", "it names no stream; write rtmp://host[:port]/application/name"),
    ("rtmp://h/live?34=1", "it names no stream"),
    ("rtmps://h/live/34 listen=1", "contains a space"),
    ("srt://u:34@h:9", "SRT has no user name and password"),
    ("srt://h", "it has no port"),
    ("srt://h:9/live/a?passphrase=34", "SRT has no paths"),
    ("srt://h:9?secret=34", "it has an unknown option; allowed are latency, mode, passphrase"),
    ("srt://h:9?mode=listener", "only mode=caller is supported"),
    ("srt://h:9?passphrase=34", "an SRT passphrase has 10 to 79 bytes"),
    ("srt://h:9?passphrase=3434343434%0afile%20x", "an encoded control character"),
    ("srt://h:9?streamid=34%0d", "an encoded control character"),
    ("srt://h:9?latency=120000", "latency must be milliseconds, from 0 to 10000"),
    ("srt://h:9?latency=-1", "latency must be milliseconds"),
    ("srt://h:9?streamid=34&STREAMID=34", "it has an option twice"),
    ("srt://h:9?pbkeylen=34", "pbkeylen must be 16, 24 or 32"),
    ("rtsp://bücher.example/1", "xn--bcher-kva.example"),
    ("rtsp://ho*st/1", "letters, digits"),
    ("rtsp://h:0/1", "port 0"),
]


@pytest.mark.parametrize(("url", "says"), MISTAKES)
def test_an_address_that_leads_elsewhere_than_meant_is_refused_without_its_secrets(
    url: str, says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        check_address(url)
    assert says in str(raised.value)
    for secret in ("34", "12", "min", "DOMAIN"):
        assert secret not in str(raised.value).replace("%34", "")
    assert "34" not in redact_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/cam?user=a&pass=b@c", "rtsp://host/cam"),
        ("rtsp://host:554/cam?user=a&pass=b@c", "rtsp://host:554/cam"),
        ("rtsp://host:554/cam?user=a:b@c.d", "rtsp://host:554/cam"),
        ("rtsp://host?user=a&pass=b@c", "rtsp://host"),
        ("http://192.0.2.2/cgi?usr=admin&pwd=a/b@c/d", "http://192.0.2.2/cgi"),
        ("rtsp://192.0.2.2:554/live@hd", "rtsp://192.0.2.2:554/live@hd"),
        ("rtsp://cam.example.com:554/live@hd", "rtsp://cam.example.com:554/live@hd"),
        ("rtsp://host/live@hd", "rtsp://host/live@hd"),
        ("rtsp://u:p@host/live@hd", "rtsp://host/live@hd"),
        ("rtsp://u:p@host/cam?x=y@z", "rtsp://host/cam"),
        ("rtsp://u:12%2334@host/1", "rtsp://host/1"),
        ("rtsp://u:a:b@host/1", "rtsp://host/1"),
        ("rtsp://u:!$&'()*+,;=~._-@host/1", "rtsp://host/1"),
        ("rtsp://u@host", "rtsp://host"),
        ("rtsp://u:p@host:554/a?b#c", "rtsp://host:554/a"),
        ("http://h:8080/?action=stream", "http://h:8080/"),
        ("http://h/x#part", "http://h/x"),
        ("http://proxy/rtsp://u:p@192.0.2.6/1", "http://proxy/rtsp://***@192.0.2.6/1"),
        ("udp://@:5000", "udp://:5000"),
        ("udp://@239.0.0.1:5000?fifo_size=5", "udp://239.0.0.1:5000"),
        ("udp://@:5000?overrun_nonfatal=1&fifo_size=1000000&buffer_size=9", "udp://:5000"),
        ("udp://@239.0.0.1:5000?sources=10.0.0.1&localaddr=10.0.0.2", "udp://239.0.0.1:5000"),
        ("rtsp://h/x?listen=1&fifo_size=1e9", "rtsp://h/x"),
        ("tcp://h:1?timeout=5", "tcp://h:1"),
        ("rtsp://u:p@[fe80::1%25eth0]:554/x", "rtsp://[fe80::1%25eth0]:554/x"),
        ("rtsp://host/%40x?y=%23", "rtsp://host/%40x"),
    ],
)
def test_a_legal_address_is_taken_as_it_is(url: str, shown: str) -> None:
    assert check_address(url) == url
    assert redact_url(url) == shown


def test_the_address_of_pushed_frames_is_of_its_own_kind() -> None:
    camera = CameraConfig(id="a", url=" PUSH: ")
    assert (camera.url, camera.kind, camera.is_file, camera.problem()) == (
        "push:",
        "push",
        False,
        None,
    )
    with pytest.raises(ValueError, match="unknown scheme 'push'"):
        CameraConfig(id="a", url="push://host/a")


def test_a_scheme_in_capitals_is_written_small() -> None:
    assert check_address("RTSP://host/A") == "rtsp://host/A"


PLAIN = st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp"))


@given(st.text(PLAIN, max_size=20), st.text(PLAIN, max_size=20))
def test_any_encoded_login_is_taken_and_never_shown(user: str, password: str) -> None:
    login = f"{quote(user, safe='', errors='replace')}:{quote(password, safe='', errors='replace')}"
    url = f"rtsp://{login}@cam.example.com:554/live?a=b@c"
    assert check_address(url) == url
    assert redact_url(url) == "rtsp://cam.example.com:554/live"


@given(st.text("ab1#?/@%: []\\&", max_size=10), st.text("ab1#?/@%: []\\&", max_size=10))
def test_no_password_is_ever_shown_or_taken_for_a_host(before: str, after: str) -> None:
    url = f"rtsp://admin:{before}SECRET{after}@10.0.0.1/live"
    try:
        shown = check_address(url) and redact_url(url)
        assert shown == "rtsp://10.0.0.1/live"
    except ValueError as error:
        shown = str(error)
    assert "SECRET" not in shown
    assert "SECRET" not in redact_url(url)


@pytest.mark.parametrize("password", ["12#34", "a?b/c@d%e f", "%41", "[x]\\", "pä:ß"])
def test_an_encoded_password_reaches_the_camera_as_it_was_meant(password: str) -> None:
    """FFmpeg decodes it; a server that asks for a login sees what it sends."""
    logins: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_ask_for_login, args=(server, logins))
        thread.start()
        url = f"rtsp://us%2Fer:{quote(password, safe='')}@127.0.0.1:{server.getsockname()[1]}/1"
        with pytest.raises(FFmpegError):
            av.open(check_address(url), timeout=(5, 5))
        thread.join()
    assert logins == [f"us/er:{password}"]


def _ask_for_login(server: socket.socket, logins: list[str]) -> None:
    client, _ = server.accept()
    with client:
        client.recv(4096)
        client.sendall(
            b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
        )
        for line in client.recv(4096).decode().split("\r\n"):
            if line.startswith("Authorization: Basic "):
                logins.append(base64.b64decode(line.split()[-1]).decode())


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize(
    ("place", "is_refused"),
    [
        ("u%0d%0aInjected:1:p@{}/x", True),
        ("u%1b:p@{}/x", True),
        ("{}/a%0d%0aInjected:1%1b%00", False),
        ("{}/a?b=%0d%0aInjected:1%1b%00", False),
        ("u:p@{}/a%0aInjected:1", False),
    ],
)
def test_no_address_that_is_taken_adds_a_line_to_a_request(
    scheme: str, place: str, is_refused: bool
) -> None:
    """FFmpeg decodes user names, not paths: a server sees what it sends."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        thread = threading.Thread(target=_ask_for_digest, args=(server, requests))
        thread.start()
        url = f"{scheme}://{place.format(f'127.0.0.1:{server.getsockname()[1]}')}"
        with pytest.raises(FFmpegError):
            av.open(url, timeout=(5, 5))
        server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        thread.join()
    sent = b"".join(requests).replace(b"\r\n", b"")
    is_dangerous = bool({b"\r", b"\n", b"\x1b"} & {bytes([byte]) for byte in sent})
    is_dangerous |= any(line.startswith(b"Injected") for line in b"".join(requests).splitlines())
    assert requests
    assert is_dangerous == is_refused
    if is_refused:
        with pytest.raises(ValueError, match="encoded control character"):
            check_address(url)
    else:
        assert check_address(url) == url


def _ask_for_digest(server: socket.socket, requests: list[bytes]) -> None:
    """Refuse every request; FFmpeg sends the user name of a digest as it is."""
    with contextlib.suppress(OSError):  # the server was closed
        while True:
            client, _ = server.accept()
            with client, contextlib.suppress(OSError):
                while request := client.recv(4096):
                    requests.append(request)
                    protocol = request.split(b"\r\n")[0].split()[-1]
                    number = re.search(rb"CSeq: \d+", request)
                    client.sendall(
                        (protocol if protocol.startswith(b"RTSP") else b"HTTP/1.1")
                        + b" 401 Unauthorized\r\nContent-Length: 0\r\n"
                        + (number[0] + b"\r\n" if number else b"")
                        + b'WWW-Authenticate: Digest realm="x", nonce="n"\r\n\r\n'
                    )


@pytest.mark.parametrize(
    "options",
    [
        *("?listen", "?listen=1", "/x?listen=1", "?a=b&listen=1", "?%6cisten=1", "#?listen=1"),
        *("/a?&listen", "?listen=%31", "?listen=0", "?listen_timeout=1", "?a=listen", "?LISTEN=1"),
        *("/a&listen=1", "?a=b?listen=1", "?a=b;listen=1", "?timeout=1000", ""),
    ],
)
def test_addresses_by_which_ffmpeg_would_listen_are_refused(options: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}{options}"
    ended = threading.Event()

    def open_it() -> None:
        with contextlib.suppress(FFmpegError):
            av.open(url, timeout=(5, 5)).close()
        ended.set()

    def listens() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 5).close()
            return True
        return False

    thread = threading.Thread(target=open_it)
    thread.start()
    is_open = False
    while not (is_open or ended.is_set()):
        is_open = listens()
    thread.join()
    if is_open:
        with pytest.raises(ValueError, match="option listen"):
            check_address(url)
    else:
        assert check_address(url) == url


def test_every_way_to_give_an_address_is_checked(tmp_path: Path) -> None:
    good = "cameras: [{id: a, url: rtsp://h/a}]"
    with pytest.raises(ConfigError, match="%23 for #") as raised:
        parse_config("cameras: [{id: a, url: 'rtsp://u:1#2@h/x'}]", StreamConfig)
    assert "1#2" not in str(raised.value)
    with pytest.raises(ConfigError, match="%3F for"):
        parse_config(good, StreamConfig, ["cameras.a.url=rtsp://u:1?2@h/x"])
    changes = tmp_path / "changes.json"
    saved = {"cameras": {"a": {"id": "a", "url": "rtsp://u:1/2@h/x"}}, "paused": []}
    changes.write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match="%2F for /"):
        CameraOverrides(changes)


@pytest.mark.parametrize("name", ["a\n", "a\x1b", "\u202ea", "a\0", "a b", "[/b]", "", ".a", "a/b"])
def test_ids_are_plain_names_to_their_end(name: str) -> None:
    for tree in (
        {"id": name, "url": "rtsp://h/a"},
        {"id": "a", "url": "rtsp://h/a", "regions": [{"id": name}]},
    ):
        with pytest.raises(ConfigError, match=r"id: String should match pattern"):
            check_tree(tree, CameraConfig, name="camera")
