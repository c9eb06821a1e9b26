"""Secrets stay out of the topic and out of what is shown, and arrive in the address."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError
from stream.cameras.config import CameraConfig, redact_url
from stream.fleet.secrets import SecretFiles, move_secrets, refuse_plain_address, secret_names

ODD = "p@ss:/?#[]%41 ä"


def camera(url: str) -> CameraConfig:
    return CameraConfig(id="door", url=url)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_arrives_in_the_address_and_is_not_shown(tmp_path: Path, end: str) -> None:
    (tmp_path / "door-password").write_text(ODD + end, encoding="utf-8", newline="")
    (tmp_path / "user.1").write_text("viewer" + end, newline="")
    given = camera("rtsp://${secret:user.1}:${secret:door-password}@10.0.0.5:554/main")
    assert secret_names(given.url) == ("user.1", "door-password")
    url = SecretFiles(tmp_path).resolve(given).url
    parts = urlsplit(url)
    assert (parts.username, parts.hostname, parts.port) == ("viewer", "10.0.0.5", 554)
    assert parts.password is not None
    assert unquote(parts.password) == ODD
    assert redact_url(url) == "rtsp://10.0.0.5:554/main"
    assert "ss" not in repr(camera(url))


def test_a_query_may_hold_references_and_a_camera_without_them_is_left_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "k").write_text("a&b")
    files = SecretFiles(tmp_path)
    url = files.resolve(camera("http://h/v?user=me&password=${secret:k}&n=1")).url
    assert url == "http://h/v?user=me&password=a%26b&n=1"
    plain = CameraConfig(id="door", url="rtsp://h/1", loop=False, hop=3)
    assert SecretFiles(None).resolve(plain) is plain


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "1 to 1024 bytes"),
        (b"\n", "1 to 1024 bytes"),
        (b"a\nb\n", "on one line"),
        (b"a\0b", "on one line"),
        (b"x" * 1025, "1 to 1024 bytes"),
        (b"hush\xff", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named(
    content: bytes | None, part: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "pw").write_bytes(content)
    with pytest.raises(ConfigError, match=r"camera door: the secret 'pw'") as caught:
        SecretFiles(tmp_path).resolve(camera("rtsp://u:${secret:pw}@h/"))
    assert part in str(caught.value)
    assert "hush" not in str(caught.value)


def test_without_a_folder_the_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"set cameras_from\.secrets_dir"):
        SecretFiles(None).resolve(camera("rtsp://u:${secret:pw}@h/"))


@pytest.mark.parametrize("name", ["../pw", "a/b", ".hidden", "", "a b", "x" * 201])
def test_a_name_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    for ask in (
        lambda: CameraConfig(id="door", url=f"http://h/v?password=${{secret:{name}}}"),
        lambda: CameraConfig(id="door", url=f"rtsp://u:${{secret:{name}}}@h/"),
    ):
        try:
            made = ask()
        except ValueError:
            continue  # the address itself is refused
        with pytest.raises(ConfigError, match=r"\$\{secret:NAME\}"):
            SecretFiles(tmp_path).resolve(made)


def test_a_reference_must_not_stand_where_logs_would_show_it(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("hush")
    for url in ("rtsp://h/live/${secret:k}/main", "/videos/${secret:k}.mp4"):
        with pytest.raises(ConfigError, match="stands where logs would show"):
            SecretFiles(tmp_path).resolve(camera(url))
        with pytest.raises(ConfigError, match="stands where logs would show"):
            refuse_plain_address("door", url)


def test_exposed_files_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pw").write_text("hush")
    (tmp_path / "pw").chmod(0o644)
    files = SecretFiles(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            files.resolve(camera("rtsp://u:${secret:pw}@h/"))
    [message] = caplog.messages
    assert "other users may read it" in message
    assert "hush" not in message


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("rtsp://u:hush@h/1", "${secret:door-password}"),
        ("rtsp://hush@h/1", "${secret:door-login}"),
        ("rtsp://u:hush${secret:k}@h/1", "a password"),
        ("http://h/v?user=u&pwd=hush&n=1", "${secret:door-pwd}"),
        ("rtsp://h/user=u_password=hush_channel=1.sdp", "${secret:door-password}"),
        ("rtsp://h/token/hush/main", "${secret:door-token}"),
        ("rtmp://h/live/hush", "${secret:door-stream}"),
        ("srt://h:9?streamid=hush", "${secret:door-streamid}"),
        ("srt://h:9?passphrase=hushhushhush&latency=9", "${secret:door-passphrase}"),
        ("rtsp://h/rtsp://u:hush@x/1", "without a login"),
        ("http://h/v?src=rtsp://u:hush@x/1", "without a login"),
        ("http://h/v?pwd=${secret:k}&src=rtsp%3A//u%3Ahush%40x/1", "without a login"),
    ],
)
def test_a_plain_secret_is_refused_with_the_remedy(url: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_plain_address("door", url)
    assert part in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://h/1",
        "rtsp://u:@h/1",
        "rtsp://u:${secret:k}@h/1",
        "rtsp://${secret:k}@h/1",
        "http://h/v?user=u&pwd=${secret:k}&n=1",
        "rtmp://h/live/${secret:k}",
        "srt://h:9?passphrase=${secret:k}&streamid=${secret:l}&mode=caller",
        "udp://@:5000",
        "/videos/token/one.mp4",
        "/dev/video0",
    ],
)
def test_an_address_without_plain_secrets_may_enter_the_topic(url: str) -> None:
    refuse_plain_address("door", camera(url).url)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:p%40ss%2Fword@h:554/1?x=1",
        "rtsp://toke%2Bn@h/1",
        "http://h/v?user=u&pwd=hush%26&n=1",
        "rtsp://u:one@h/v?password=two",
        "rtmp://u:pw@h/live/k3y",
        "srt://h:9?streamid=read%3Aa&passphrase=hush%26hush%2Bhush",
        "rtsp://h/user=u_password=hush_channel=1.sdp",
    ],
)
def test_moved_secrets_come_back_as_they_were(url: str, tmp_path: Path) -> None:
    moved, secrets = move_secrets(CameraConfig(id="door", url=url, hop=3))
    refuse_plain_address("door", moved.url)
    assert set(secret_names(moved.url)) == secrets.keys()
    files = SecretFiles(tmp_path)
    files.write(secrets)
    files.write(secrets)  # the same again is fine
    back = files.resolve(moved)
    assert unquote(back.url) == unquote(url)
    assert back.hop == 3
    for name in secrets:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="holds another secret"):
        files.write({next(iter(secrets)): "other"})


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=4)


@settings(deadline=None, database=None)
@given(user=TEXTS, password=TEXTS, key=TEXTS)
def test_no_part_of_any_secret_stays_in_a_moved_address(user: str, password: str, key: str) -> None:
    name, word, value = (quote(each, safe="") for each in (user, password, key))
    made = camera(f"http://{name}:{word}@h/v?n=1&key={value}")
    with pytest.raises(ConfigError):
        refuse_plain_address("door", made.url)
    moved, secrets = move_secrets(made)
    refuse_plain_address("door", moved.url)
    assert secrets == {"door-password": password, "door-key": key}
    assert moved.url == (
        f"http://{name}:${{secret:door-password}}@h/v?n=1&key=${{secret:door-key}}"
    )
    assert redact_url(moved.url) == "http://h/v"


def test_what_cannot_be_moved_is_refused() -> None:
    for url in ("rtsp://h/rtsp://u:hush@x/1", "rtsp://u:hush${secret:k}@h/1"):
        with pytest.raises(ConfigError):
            move_secrets(camera(url))
