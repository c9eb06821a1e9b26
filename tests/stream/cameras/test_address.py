"""Addresses of cameras: which are refused, to which host they lead, and what is shown of them."""

import base64
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

from configs import ConfigError, parse_config
from stream.cameras.address import check_address, redact_url
from stream.cameras.overrides import CameraOverrides
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
    ("rtsp://h/a\tb", "control character"),
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
        ("rtsp://u:p@[fe80::1%25eth0]:554/x", "rtsp://[fe80::1%25eth0]:554/x"),
        ("rtsp://host/%40x?y=%23", "rtsp://host/%40x"),
    ],
)
def test_a_legal_address_is_taken_as_it_is(url: str, shown: str) -> None:
    assert check_address(url) == url
    assert redact_url(url) == shown


def test_a_scheme_in_capitals_is_written_small() -> None:
    assert check_address("RTSP://host/A") == "rtsp://host/A"


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(max_size=20))
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
