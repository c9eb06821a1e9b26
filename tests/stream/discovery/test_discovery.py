"""Finding cameras: a device that answers well, and devices that answer anything."""

from __future__ import annotations

import contextlib
import logging
import time

import pytest

from configs import ConfigError
from stream.discovery.choice import camera_of, choose_profile, pick
from stream.discovery.device import Login
from stream.discovery.discover import discover, parse_host
from stream.discovery.found import Device, Profile
from stream.discovery.probe import MAX_DEVICES, probe
from stream.discovery.safe_xml import UnsafeXmlError, parse
from tests.support.fake_onvif import BOMB, FakeOnvif, envelope, match

STREAM = "rtsp://127.0.0.1:554/{token}?channel=1"
LOGIN = Login("viewer", "p@ss:w/rd")


def find(device: FakeOnvif, login: Login | None = None, seconds: float = 3.0) -> Device:
    [found] = discover(0.5, seconds, hosts=[device.probe_address], login=login).devices
    return found


def test_a_device_is_found_with_its_streams_and_its_small_stream_is_chosen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    # Its clock is three days ahead: a digest with another date is refused.
    with FakeOnvif(STREAM, login=(LOGIN.user, LOGIN.password), clock_ahead=259_200.0) as device:
        found = find(device, LOGIN)
        assert find(device).problem == "it wants user name and password"
        wrong = find(device, Login("viewer", "wrong"))
    assert found.problem is None
    assert (found.name, found.manufacturer, found.model) == ("Front door", "Maker", "M 2")
    assert [
        (each.token, each.codec, each.width, each.height, each.fps) for each in found.profiles
    ] == [
        ("main", "H264", 2560, 1440, 25.0),
        ("sub", "H264", 640, 360, 15.0),
        ("tiny", "JPEG", 160, 120, 5.0),
    ]
    assert found.chosen == "sub"
    assert found.profiles[1].url == "rtsp://127.0.0.1:554/sub?channel=1"
    assert wrong.problem is not None
    assert "refuses user name and password" in wrong.problem
    sent = "".join(text for _, text in device.requests)
    assert "PasswordDigest" in sent
    assert LOGIN.password not in sent + caplog.text + repr(LOGIN)


def test_the_network_is_asked_on_an_interface() -> None:
    try:
        device = FakeOnvif(STREAM, multicast=True)
    except OSError as error:
        pytest.skip(f"no multicast on loopback: {error}")
    with device:
        found = discover(1.0, 3.0, interfaces=["127.0.0.1"]).devices
    assert [(each.host, each.chosen) for each in found if each.host == "127.0.0.1"] == [
        ("127.0.0.1", "sub")
    ]


def test_a_device_that_is_named_needs_no_probe() -> None:
    # Nothing listens there, but the usual address of the service is asked.
    [silent] = discover(0.2, 1.0, hosts=["127.0.0.3"]).devices
    assert silent.addresses == ("http://127.0.0.3/onvif/device_service",)
    assert silent.problem == "its web server does not answer"


def test_packets_that_are_no_answers_are_dropped_and_counted() -> None:
    def many(relates_to: str, address: str) -> list[bytes]:
        return [
            b"",
            b"\xff\xfe garbage",
            (BOMB + match(relates_to, address)).encode(),
            b"<a>" * 100,
            match("urn:uuid:another", address).encode(),
            match(relates_to, "x" * 600 + f" {address}").encode(),
        ]

    with FakeOnvif(STREAM, matches=many) as device:
        host, _, port = device.probe_address.partition(":")
        [answer], dropped = probe(0.3, hosts=[(host, int(port))])
    assert answer.addresses == (device.address,)
    assert set(dropped) == {"malformed", "unasked"}
    assert dropped["malformed"] >= 4
    assert MAX_DEVICES == 256


ELSEWHERE = (
    "http://127.0.0.2:80/onvif",
    "http://localhost:80/onvif",
    "http://127.0.0.1@127.0.0.2/onvif",
    "file:///etc/passwd ftp://127.0.0.1/",
    "http://[::1",
    "",
)


def test_addresses_elsewhere_are_shown_and_not_asked() -> None:
    for addresses in ELSEWHERE:

        def elsewhere(relates_to: str, _address: str, names: str = addresses) -> list[bytes]:
            return [match(relates_to, names).encode()]

        with FakeOnvif(STREAM, matches=elsewhere) as device:
            found = find(device)
        assert found.problem is not None
        assert "addresses of other hosts are not asked" in found.problem
        assert device.requests == []


MEDIA_ELSEWHERE = envelope(
    "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://127.0.0.2/m"
    "</tt:XAddr><tt:StreamingCapabilities/></tt:Media></tds:Capabilities>"
    "</tds:GetCapabilitiesResponse>"
)
BAD: tuple[tuple[dict[str, object], str], ...] = (
    ({"GetDeviceInformation": BOMB + envelope("&b;")}, "it has a document type"),
    ({"GetDeviceInformation": envelope("x" * 300_000)}, "longer than 262144 bytes"),
    ({"GetDeviceInformation": "garbage"}, "it is not XML"),
    ({"GetProfiles": envelope("<x/>")}, "it names no streams"),
    ({"GetDeviceInformation": (307, b"")}, "it redirects"),
    ({"GetDeviceInformation": (401, b"")}, "it refuses user name and password, or wants them"),
    ({"GetProfiles": lambda: time.sleep(30) or ""}, "no answer within 2 s"),
    ({"GetCapabilities": MEDIA_ELSEWHERE}, "its media service is on another host, 127.0.0.2"),
)


def test_a_device_that_answers_badly_costs_its_own_time_and_is_named() -> None:
    started_at = time.monotonic()
    with contextlib.ExitStack() as opened:
        devices = [
            opened.enter_context(FakeOnvif(STREAM, answers=answers, host=f"127.0.0.{20 + number}"))
            for number, (answers, _) in enumerate(BAD)
        ]
        good = FakeOnvif(STREAM.replace("127.0.0.1", "127.0.0.19"), host="127.0.0.19")
        devices.insert(0, opened.enter_context(good))
        hosts = [device.probe_address for device in devices]
        first, *others = discover(1.0, 2.0, hosts=hosts).devices
        seconds = time.monotonic() - started_at
    assert (first.problem, first.chosen) == (None, "sub")
    for device, (_, says) in zip(others, BAD, strict=True):
        assert says in (device.problem or ""), device
        assert device.chosen is None
    assert seconds < 6


def test_streams_elsewhere_are_shown_and_not_used() -> None:
    for stream, says in (
        ("rtsp://192.0.2.9/{token}", "on another host, 192.0.2.9"),
        ("http://127.0.0.1/{token}", "not one of RTSP"),
        ("rtsp://127.0.0.1/" + "x" * 3000, "malformed"),
    ):
        with FakeOnvif(stream) as device:
            found = find(device)
        assert found.chosen is None
        assert len(found.profiles) == 3
        assert all(says in (each.problem or "") for each in found.profiles)
    with pytest.raises(ConfigError, match="no device could be added"):
        pick([found], None)


def profile(token: str, width: int, height: int, fps: float = 15.0) -> Profile:
    return Profile(token, token, "H264", width, height, fps, f"rtsp://h/{token}")


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(1920, 1080, 25), (640, 360, 15), (320, 240, 15)], 2),
        ([(1920, 1080, 25), (320, 176, 15)], 0),
        ([(640, 360, 5), (1280, 720, 15)], 1),
        ([(640, 360, 5), (1280, 720, 5)], 0),
        ([(160, 120, 15), (320, 176, 15)], 1),
        ([(360, 640, 0), (1280, 720, 15)], 0),
        ([], None),
    ],
)
def test_the_smallest_stream_that_is_enough_is_chosen(
    sizes: list[tuple[int, int, float]], chosen: int | None
) -> None:
    found = choose_profile([profile(str(number), *size) for number, size in enumerate(sizes)])
    assert (None if found is None else int(found.token)) == chosen


def test_a_device_becomes_a_camera_with_its_login_or_a_reference() -> None:
    stream = Profile("a", "a", "H264", 640, 360, 15, "rtsp://old:login@10.0.0.5:554/s?x=1")
    device = Device("10.0.0.5", (), profiles=(stream,), chosen="a")
    plain = camera_of(device, camera_id=None, profile=None, user="us/er", password="p%40")
    assert plain == {"id": "camera-10.0.0.5", "url": "rtsp://us%2Fer:p%40@10.0.0.5:554/s?x=1"}
    bare = camera_of(device, camera_id="door", profile="a", user=None, password="")
    assert bare == {"id": "door", "url": "rtsp://10.0.0.5:554/s?x=1"}
    with pytest.raises(ConfigError, match=r"no profile 'b'; it has: a"):
        camera_of(device, camera_id=None, profile="b", user=None, password="")
    other = Device("10.0.0.6", (), profiles=(stream,), chosen="a")
    with pytest.raises(ConfigError, match=r"name one of 10\.0\.0\.5, 10\.0\.0\.6"):
        pick([device, other], None)
    assert pick([device, other], "10.0.0.6") is other
    with pytest.raises(ConfigError, match="no device answered from"):
        pick([device], "10.0.0.9")


def test_only_one_address_of_one_device_is_asked() -> None:
    assert parse_host("10.0.0.1") == ("10.0.0.1", 3702)
    assert parse_host("10.0.0.1:80") == ("10.0.0.1", 80)
    assert parse_host("[fe80::1]:9") == ("fe80::1", 9)
    assert parse_host("::1") == ("::1", 3702)
    for wrong in ("camera", "10.0.0.1:0", "10.0.0.1:x", "239.255.255.250", "", "10.0.0.1:99999"):
        with pytest.raises(ConfigError):
            parse_host(wrong)


def test_xml_of_devices_has_bounds() -> None:
    assert parse(b"<a><b>c</b></a>").findtext("b") == "c"
    for bad in (
        b"",
        b"<a>",
        b"<a>" * 70,
        BOMB.encode() + b"<a/>",
        "<!DOCTYPE a><a/>".encode("utf-16"),
    ):
        with pytest.raises(UnsafeXmlError):
            parse(bad)
