"""WS-Discovery: ask the network which cameras there are, and read the answers.

A probe is a SOAP message in a UDP packet, to a multicast group or to one host (OASIS WS-Discovery,
April 2005, as ONVIF uses it). Answers come from anyone, so each is read with bounds.
"""

from __future__ import annotations

import collections
import contextlib
import ipaddress
import select
import socket
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Container, Iterator, Sequence
from urllib.parse import unquote

from configs import ConfigError
from stream.discovery.found import Answer, short
from stream.discovery.safe_xml import UnsafeXmlError, parse

__all__ = ["MAX_DEVICES", "PORT", "local_addresses", "probe", "read_answer"]

PORT = 3702
MAX_DEVICES = 256
_GROUP = "239.255.255.250"
_MAX_PACKETS = 4096
_MAX_ADDRESSES, _MAX_ADDRESS = 8, 512
_MAX_PACKET_BYTES = 65_535
_RESEND_SECONDS = 0.4  # UDP may lose the first probe
_SCOPE = "onvif://www.onvif.org/"
_DISCOVERY = "{http://schemas.xmlsoap.org/ws/2005/04/discovery}"
_ADDRESSING = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"
_TYPES = (
    ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter"),
    ("http://www.onvif.org/ver10/device/wsdl", "Device"),
)
_PROBE = """\
<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"\
 xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"\
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">\
<s:Header><a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
<a:MessageID>{message}</a:MessageID>\
<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>\
<s:Body><d:Probe><d:Types xmlns:n="{namespace}">n:{type}</d:Types></d:Probe></s:Body></s:Envelope>
"""


def local_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine's interfaces, without that of the machine itself.

    Raises:
        ConfigError: the extra onvif is not installed, or the interfaces cannot be listed.
    """
    try:
        import ifaddr
    except ImportError:
        raise ConfigError("to find cameras, install the extra onvif") from None
    try:
        found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    except OSError as error:  # a service that may not use AF_NETLINK
        raise ConfigError(
            f"the interfaces of this machine cannot be listed: {error.strerror}; name an address of"
            " it (--interface), or the device (--address)"
        ) from None
    addresses = [ip for ip in found if isinstance(ip, str)]
    return [ip for ip in addresses if not ipaddress.ip_address(ip).is_loopback]


def probe(
    seconds: float, *, interfaces: Sequence[str] = (), hosts: Sequence[tuple[str, int]] = ()
) -> tuple[list[Answer], dict[str, int]]:
    """Ask for cameras, and wait for answers.

    Args:
        seconds: how long to wait.
        interfaces: IPv4 addresses of this machine from which the group is asked.
        hosts: IP addresses and ports that are asked one by one.

    Returns:
        The answers, one of each host, and how many packets were dropped, by reason.

    Raises:
        ConfigError: nothing can be sent.
    """
    messages = {f"urn:uuid:{uuid.uuid4()}": kind for kind in _TYPES}
    packets = [
        _PROBE.format(message=message, namespace=kind[0], type=kind[1]).encode()
        for message, kind in messages.items()
    ]
    found: dict[str, Answer] = {}
    dropped: collections.Counter[str] = collections.Counter()
    with contextlib.ExitStack() as opened:
        ways = [
            *((opened.enter_context(_group_socket(ip)), (_GROUP, PORT)) for ip in interfaces),
            *((opened.enter_context(_host_socket(host)), (host, port)) for host, port in hosts),
        ]
        for data, host in _packets([way[0] for way in ways], lambda: _send(ways, packets), seconds):
            try:
                answers = read_answer(data, host, messages)
            except UnsafeXmlError:
                dropped["malformed"] += 1
                continue
            if not answers:
                dropped["unasked"] += 1
            for answer in answers:
                if host not in found and len(found) >= MAX_DEVICES:
                    dropped["too_many"] += 1
                elif host not in found or not found[host].addresses:
                    found[host] = answer
            if not interfaces and all(host in found for host, _ in hosts):
                break  # whoever was asked has answered
    return list(found.values()), dict(dropped)


def read_answer(data: bytes, host: str, messages: Container[str]) -> list[Answer]:
    """Return what a packet says; nothing if it does not answer one of these messages.

    Raises:
        UnsafeXmlError: it cannot be read.
    """
    root = parse(data)
    relates_to = (root.findtext(f".//{_ADDRESSING}RelatesTo") or "").strip()
    if relates_to not in messages:
        return []
    return [_answer(match, host) for match in root.iter(f"{_DISCOVERY}ProbeMatch")][:1]


def _answer(match: ET.Element, host: str) -> Answer:
    addresses = (match.findtext(f"{_DISCOVERY}XAddrs") or "").split()
    usable = [url for url in addresses if len(url) <= _MAX_ADDRESS][:_MAX_ADDRESSES]
    scopes = (match.findtext(f"{_DISCOVERY}Scopes") or "").split()
    return Answer(host, tuple(usable), _scope(scopes, "name"), _scope(scopes, "hardware"))


def _scope(scopes: list[str], kind: str) -> str:
    prefix = f"{_SCOPE}{kind}/"
    return next(
        (short(unquote(each[len(prefix) :])) for each in scopes if each.startswith(prefix)), ""
    )


def _packets(
    sockets: list[socket.socket], send: Callable[[], None], seconds: float
) -> Iterator[tuple[bytes, str]]:
    """Send twice, and yield each packet with the host that it came from, until the time is over."""
    send()
    started_at = time.monotonic()
    is_sent_again = False
    for _ in range(_MAX_PACKETS):
        while True:
            waited = time.monotonic() - started_at
            if not is_sent_again and waited >= _RESEND_SECONDS:
                send()
                is_sent_again = True
            limit = seconds if is_sent_again else min(seconds, _RESEND_SECONDS)
            ready = select.select(sockets, [], [], max(0.0, limit - waited))[0]
            if ready:
                break
            if time.monotonic() - started_at >= seconds:
                return
        if time.monotonic() - started_at >= seconds:
            return
        with contextlib.suppress(OSError):  # an ICMP answer of a host that does not listen
            data, address = ready[0].recvfrom(_MAX_PACKET_BYTES)
            yield data, str(address[0]).partition("%")[0]


def _send(ways: Sequence[tuple[socket.socket, tuple[str, int]]], packets: list[bytes]) -> None:
    """Send all packets all ways.

    Raises:
        ConfigError: not one could be sent.
    """
    problem: OSError | None = None
    sent = 0
    for sender, target in ways:
        try:
            for packet in packets:
                sender.sendto(packet, target)
                sent += 1
        except OSError as error:
            problem = error
    if ways and not sent and problem is not None:
        raise ConfigError(f"the network cannot be asked for cameras: {problem.strerror}")


def _group_socket(interface: str) -> socket.socket:
    try:
        address = socket.inet_aton(interface)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        raise ConfigError(f"{interface!r} is not an IPv4 address of this machine") from None
    try:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sender.bind((interface, 0))
    except OSError as error:
        sender.close()
        raise ConfigError(
            f"{interface}: cannot send from this address: {error.strerror}; name an IPv4 address of"
            " this machine"
        ) from None
    return sender


def _host_socket(host: str) -> socket.socket:
    is_ipv6 = ":" in host
    return socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
