"""A device of ONVIF: it answers probes over UDP, and a few requests over HTTP, well or badly."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_SCHEMA = "http://www.onvif.org/ver10/schema"
BOMB = (
    """<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>"""
)
# Token, codec, width, height, frames per second.
PROFILES = (
    ("main", "H264", 2560, 1440, 25),
    ("sub", "H264", 640, 360, 15),
    ("tiny", "JPEG", 160, 120, 5),
)


def envelope(body: str) -> str:
    """Wrap the body of an answer."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}"'
        f' xmlns:tds="{_DEVICE}" xmlns:trt="{_MEDIA}" xmlns:tt="{_SCHEMA}">'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    )


def match(relates_to: str, addresses: str, scopes: str = "") -> str:
    """Return a ProbeMatches message."""
    return (
        f'<s:Envelope xmlns:s="{_SOAP}" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
        ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"><s:Header>'
        f"<a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body><d:ProbeMatches><d:ProbeMatch>"
        "<a:EndpointReference><a:Address>urn:uuid:1</a:Address></a:EndpointReference>"
        f"<d:Scopes>{scopes}</d:Scopes><d:XAddrs>{addresses}</d:XAddrs>"
        "</d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
    )


class FakeOnvif:
    """A device on a loopback address; use it in a `with` block.

    Args:
        stream: its RTSP address, in which `{token}` stands for the profile.
        login: user name and password that it wants as a digest; None: it wants none.
        answers: replaces the answer to a request, by the request's name: a text, or a call.
        matches: makes the answers to a probe from its message id and the device's address.
        clock_ahead: seconds by which its clock is ahead.
        multicast: it listens to the group instead of a port of its own.
    """

    def __init__(
        self,
        stream: str,
        *,
        login: tuple[str, str] | None = None,
        answers: dict[str, Any] | None = None,
        matches: Callable[[str, str], list[bytes]] | None = None,
        host: str = "127.0.0.1",
        clock_ahead: float = 0.0,
        multicast: bool = False,
    ) -> None:
        self._stream = stream
        self._login = login
        self._answers = answers or {}
        self._clock_ahead = clock_ahead
        self._matches = matches or self._own_match
        self.requests: list[tuple[str, str]] = []  # name and the whole text
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if multicast:
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            group = socket.inet_aton("239.255.255.250") + socket.inet_aton(host)
            self._udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            self._udp.bind(("239.255.255.250", 3702))
        else:
            self._udp.bind((host, 0))
        self._http = http.server.ThreadingHTTPServer((host, 0), self._handler())
        # From the address of the device, also where it listens to the group.
        self._replies = self._udp
        if multicast:
            self._replies = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._replies.bind((host, 0))
        self.port: int = self._udp.getsockname()[1]
        self.probe_address = f"{host}:{self.port}"
        self.address = f"http://{host}:{self._http.server_port}/onvif/device_service"

    def __enter__(self) -> FakeOnvif:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        threading.Thread(target=self._answer_probes, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._udp.close()
        self._replies.close()

    def _own_match(self, relates_to: str, address: str) -> list[bytes]:
        scopes = "onvif://www.onvif.org/name/Front%20door onvif://www.onvif.org/hardware/F1"
        return [match(relates_to, address, scopes).encode()]

    def _answer_probes(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._udp.recvfrom(65_535)
                found = re.search(r"MessageID>([^<]+)<", data.decode())
                assert found is not None
                for packet in self._matches(found[1], self.address):
                    self._replies.sendto(packet, sender)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        device = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                name = re.search(r"Body[^>]*>\s*<(?:\w+:)?(\w+)", text)
                assert name is not None
                device.requests.append((name[1], text))
                status, body = device._answer(name[1], text)
                self.send_response(status)
                self.send_header("Content-Type", "application/soap+xml")
                self.send_header("Content-Length", str(len(body)))
                if status == 307:
                    self.send_header("Location", "http://127.0.0.2:9/")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler

    def _answer(self, name: str, text: str) -> tuple[int, bytes]:
        special = self._answers.get(name)
        if special is not None:
            answer = special() if callable(special) else special
            return answer if isinstance(answer, tuple) else (200, answer.encode())
        if name != "GetSystemDateAndTime" and not self._is_allowed(text):
            return 400, envelope(
                "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value"
                ' xmlns:ter="http://www.onvif.org/ver10/error">ter:NotAuthorized</s:Value>'
                "</s:Subcode></s:Code><s:Reason><s:Text xml:lang='en'>Sender not authorized"
                "</s:Text></s:Reason></s:Fault>"
            ).encode()
        return 200, envelope(self._body(name, text)).encode()

    def _is_allowed(self, text: str) -> bool:
        if self._login is None:
            return True
        user, password = self._login

        def field(name: str) -> str:
            found = re.search(rf"<(?:\w+:)?{name}(?:\s[^>]*)?>([^<]*)<", text)
            return found[1] if found else ""

        created = field("Created")
        nonce = base64.b64decode(field("Nonce"))
        digest = hashlib.sha1(nonce + created.encode() + password.encode()).digest()
        now = time.strftime("%Y-%m-%dT%H", time.gmtime(time.time() + self._clock_ahead))
        is_fresh = created.startswith(now[:10])
        return (
            field("Username") == user and is_fresh and base64.b64decode(field("Password")) == digest
        )

    def _body(self, name: str, text: str) -> str:
        if name == "GetSystemDateAndTime":
            now = time.gmtime(time.time() + self._clock_ahead)
            return (
                "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP"
                "</tt:DateTimeType><tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime>"
                f"<tt:Time><tt:Hour>{now.tm_hour}</tt:Hour><tt:Minute>{now.tm_min}</tt:Minute>"
                f"<tt:Second>{now.tm_sec}</tt:Second></tt:Time><tt:Date><tt:Year>{now.tm_year}"
                f"</tt:Year><tt:Month>{now.tm_mon}</tt:Month><tt:Day>{now.tm_mday}</tt:Day></tt:Date>"
                "</tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
            )
        if name == "GetDeviceInformation":
            return (
                "<tds:GetDeviceInformationResponse><tds:Manufacturer>Maker</tds:Manufacturer>"
                "<tds:Model>M 2</tds:Model><tds:FirmwareVersion>1</tds:FirmwareVersion>"
                "<tds:SerialNumber>2</tds:SerialNumber><tds:HardwareId>3</tds:HardwareId>"
                "</tds:GetDeviceInformationResponse>"
            )
        if name == "GetCapabilities":
            return (
                "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>"
                f"{self.address}</tt:XAddr><tt:StreamingCapabilities/></tt:Media>"
                "</tds:Capabilities></tds:GetCapabilitiesResponse>"
            )
        if name == "GetProfiles":
            profiles = "".join(_profile(*each) for each in PROFILES)
            return f"<trt:GetProfilesResponse>{profiles}</trt:GetProfilesResponse>"
        assert name == "GetStreamUri", name
        token = re.search(r"ProfileToken>([^<]+)<", text)
        assert token is not None
        uri = self._stream.format(token=token[1])
        return (
            f"<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{uri}</tt:Uri>"
            "<tt:InvalidAfterConnect>false</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false"
            "</tt:InvalidAfterReboot><tt:Timeout>PT0S</tt:Timeout></trt:MediaUri>"
            "</trt:GetStreamUriResponse>"
        )


def _profile(token: str, codec: str, width: int, height: int, fps: int) -> str:
    return (
        f'<trt:Profiles token="{token}" fixed="true"><tt:Name>{token} stream</tt:Name>'
        f'<tt:VideoEncoderConfiguration token="e"><tt:Name>e</tt:Name><tt:UseCount>1</tt:UseCount>'
        f"<tt:Encoding>{codec}</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>"
        f"{height}</tt:Height></tt:Resolution><tt:Quality>1</tt:Quality><tt:RateControl>"
        f"<tt:FrameRateLimit>{fps}</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval>"
        "<tt:BitrateLimit>1</tt:BitrateLimit></tt:RateControl><tt:SessionTimeout>PT60S"
        "</tt:SessionTimeout></tt:VideoEncoderConfiguration></trt:Profiles>"
    )
