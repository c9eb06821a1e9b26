"""No position of an address shows the secret that stands there."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.cameras.address import check_address
from stream.cameras.redaction import plain_secrets, redact_url

NAMES = (
    *("user", "username", "usr", "login", "pass", "password", "passwd", "passphrase", "pwd", "pw"),
    *("psw", "secret", "auth", "token", "key", "apikey", "api_key", "access_token", "signature"),
    *("sig", "X-Amz-Signature", "PASSWORD", "Pwd", "loginuse", "loginpas", "sessionid", "sid"),
)
# Where a secret may stand. `{}` is the secret; it is percent-encoded there, as it must be.
LOGINS = (
    *("rtsp://u:{}@h/x", "rtsp://{}@h/x", "RTSP://u:{}@h:554", "http://{}:p@h:80/x?y=z@a"),
    *("rtsp://u:{}%40h/x", "rtsp://u%3A{}%40h/x", "rtsp://u:{}", "rtsp://u:{}:554/x"),
    *("rtsp://u:{}@[fe80::1]:554/x", "tcp://u:{}@h:1", "udp://u:{}@h:1", "rtsps://u:{}@h/x"),
    *("srt://u:{}@h:1?mode=caller", "rtmp://u:{}@h/x", "FOO+BAR.1-x://u:{}@h/x", "foo:u:{}@h/x"),
    *("foo:/u:{}@h/x", "foo:///u:{}@h", "file://u:{}@h/x", "FILE:///u:{}@h/x", "file:u:{}@h/x"),
    *("u:{}@h/x", "//u:{}@h/x", "://u:{}@h/x", "u:{}%40h/x", "sip:u:{}@h", "h/x:{}@h/x"),
    *("http://proxy/rtsp://u:{}@h/x", "http://proxy:80/a/RTSP://{}@h/x", "http://p/u:{}@h/x"),
    *(
        "http://proxy/rtsp%3A%2F%2Fu%3A{}%40h%2Fx",
        "http://p/rtsp://u:a/{}@h/x",
        "http://p/u:{}%40h",
    ),
    *("http://p/rtsp:/u:{}@h/x", "http://p/?url=rtsp://u:{}@h/x", "rtsp://proxy/x/rtsp://u:{}@h#a"),
    *("concat:rtsp://u:{}@h/x", "async:http://u:{}@h/x", "rtsp://h/password/{}/x"),
)
PARAMETERS = (
    *("rtsp://h/x?NAME={}", "rtsp://h/x?a=b&NAME={}&c=d", "rtsp://h?NAME={}", "rtsp://h/x#NAME={}"),
    *("rtsp://h/NAME={}", "rtsp://h/a&NAME={}&channel=1", "rtsp://h/a_NAME={}_channel=1_stream=0"),
    *("rtsp://h/user=a&NAME={}&channel=1/x", "rtsp://h/x;NAME={};a=b", "rtsp://h/x/NAME%3D{}/y"),
    *("clips/NAME={}/a.mp4", "a.mp4?NAME={}", "h/cgi?x=y&NAME={}", "srt://h:1/NAME={}"),
    *("foo:NAME={}", "concat:a|http://h/x?NAME={}"),
)
STREAMS = (
    *(
        "rtmp://h/live/{}",
        "RTMP://h:1935/live/{}",
        "rtmps://u:p@h/live/a/{}",
        "rtmp://h/live/{}?a=b",
    ),
    *("rtmp://h/live/{}#a", "srt://h:9?streamid={}", "srt://h:9?mode=caller&streamid={}&latency=9"),
    *(
        "SRT://h:9?passphrase={}",
        "srt://h:9?STREAMID=#!::r=a,s={}",
        "srt://h:9/?streamid=read:a:u:{}",
    ),
)
POSITIONS = (
    *LOGINS,
    *STREAMS,
    *(shape.replace("NAME", name) for shape in PARAMETERS for name in NAMES),
)
SECRET = "kPzQ7x"
AROUND = st.text("aZ0_-.~ !$&'()*+,;=:@/?#[]%|\\\x1b\nä握", max_size=8)


def shown(url: str) -> list[str]:
    """Everything that a check of the address, and its display, would show."""
    texts = [redact_url(url)]
    try:
        texts.append(redact_url(check_address(url)))
    except ValueError as error:
        texts.append(str(error))
    return texts


@pytest.mark.parametrize("shape", LOGINS)
@given(before=AROUND, after=AROUND)
def test_no_login_is_shown(shape: str, before: str, after: str) -> None:
    url = shape.format(quote(before + SECRET + after, safe=""))
    for text in shown(url):
        assert SECRET not in text, text


@given(st.sampled_from(POSITIONS), AROUND, AROUND)
def test_no_secret_is_shown(shape: str, before: str, after: str) -> None:
    url = shape.format(quote(before + SECRET + after, safe=""))
    for text in shown(url):
        assert SECRET not in text, text


@pytest.mark.parametrize("shape", POSITIONS)
def test_every_position_is_known(shape: str) -> None:
    for text in shown(shape.format(SECRET)):
        assert SECRET not in text, text


@given(st.text("ab1&;_=.~!*", max_size=6), st.text("ab1&;_=.~!*", max_size=6))
def test_a_password_in_a_path_need_not_be_encoded(before: str, after: str) -> None:
    for shape in ("rtsp://h/user=a&password={}&channel=1", "rtsp://h/user=a_password={}_channel=1"):
        assert SECRET not in redact_url(shape.format(before + SECRET + after))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "rtsp://h/user=a_password=p_q_channel=1_stream=0.sdp",
            "rtsp://h/user=***_password=***_channel=1_stream=0.sdp",
        ),
        ("rtsp://h/user=a&password=b&channel=1", "rtsp://h/user=***&password=***&channel=1"),
        ("http://p/RTSP%3A%2F%2Fu%3Ap%40h%2Fx", "http://p/RTSP%3A%2F/***@h%2Fx"),
        ("rtsp://h:554/Streaming/Channels/101", "rtsp://h:554/Streaming/Channels/101"),
        ("rtsp://h/monitor/1/keyframes", "rtsp://h/monitor/1/keyframes"),
        ("videos/user/a_b&c;d.mp4", "videos/user/a_b&c;d.mp4"),
        ("videos/10:30.mp4", "videos/10:30.mp4"),
        ("rtsp://fe80::1/x", "rtsp://fe80::1/x"),
        ("rtsp://u:pw/x", "rtsp://u:***/x"),
        ("rtmp://u:pw@h:1/live/k3y?a=b", "rtmp://h:1/live/***"),
        ("rtmp://h/live", "rtmp://h/live"),
        ("srt://h:9?streamid=read:a&latency=9", "srt://h:9"),
    ],
)
def test_the_rest_is_still_shown(url: str, text: str) -> None:
    assert redact_url(url) == text


def test_plain_secrets_are_found_where_they_stand() -> None:
    found = {
        "rtsp://u:pw@h/1": [("pw", "password")],
        "rtsp://token@h/1": [("token", "login")],
        "http://u:pw@h/v?user=u&api_key=k&n=1": [("pw", "password"), ("k", "key")],
        "http://h/v?src=rtsp://u:pw@x/1": [("/v?src=rtsp://u:pw@x/1", "path")],
        "rtsp://u:${secret:pw}@h/1?key=${secret:k}": [],
        "rtsp://u:@h/1": [],
        "rtmp://u:pw@h/live/k3y?a=b": [("pw", "password"), ("k3y", "stream")],
        "rtmp://h/live/${secret:k3y}": [],
        "srt://h:9?streamid=#!::u=a,s=b&passphrase=c": [
            ("#!::u=a,s=b", "streamid"),
            ("c", "passphrase"),
        ],
        "srt://h:9?streamid=read:a:u:p%40w&latency=9": [("read:a:u:p%40w", "streamid")],
        "srt://h:9?streamid=${secret:a}&passphrase=${secret:b}": [],
        "/videos/password/one.mp4": [],
    }
    for url, secrets in found.items():
        assert [(url[each.start : each.end], each.name) for each in plain_secrets(url)] == secrets
