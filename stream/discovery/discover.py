"""Look for cameras: probe, then ask each device that answered."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence

from configs import ConfigError
from stream.discovery.device import Login, ask_devices
from stream.discovery.found import Answer, Discovery
from stream.discovery.probe import PORT, local_addresses, probe
from stream.discovery.transport import onvif_client

__all__ = ["discover", "parse_host"]


def discover(
    probe_seconds: float,
    device_seconds: float,
    *,
    interfaces: Sequence[str] = (),
    hosts: Sequence[str] = (),
    login: Login | None = None,
) -> Discovery:
    """Find cameras.

    Args:
        probe_seconds: how long answers to the probe are waited for.
        device_seconds: maximum time of each device that answered.
        interfaces: IPv4 addresses of this machine from which to ask; none: all but loopback.
        hosts: `IP` or `IP:PORT`; if given, these are asked instead of the network.
        login: sent to each device as a digest.

    Raises:
        ConfigError: an address is malformed, the network cannot be asked, or the extra onvif is
            missing.
    """
    onvif_client()
    # At its lowest levels the package would log whole messages.
    for name in ("onvif", "zeep", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    targets = [parse_host(host) for host in hosts]
    if not targets:
        interfaces = interfaces or local_addresses()
    answers, dropped = probe(probe_seconds, interfaces=interfaces, hosts=targets)
    answered = {answer.host for answer in answers}
    for host, _ in targets:
        if host not in answered:  # many devices answer no probe that comes from another network
            place = f"[{host}]" if ":" in host else host
            answers.append(Answer(host, (f"http://{place}/onvif/device_service",)))
    devices = asyncio.run(ask_devices(answers, login, device_seconds))
    return Discovery(tuple(sorted(devices, key=lambda each: each.host)), dropped)


def parse_host(text: str) -> tuple[str, int]:
    """Return IP address and port of `IP`, `IP:PORT` or `[IP]:PORT`.

    Raises:
        ConfigError: it is neither.
    """
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f"{text!r} is not an IP address, or one with a port") from None
    if (
        address.is_multicast
        or not port.isascii()
        or not port.isdigit()
        or not 0 < int(port) < 65536
    ):
        raise ConfigError(f"{text!r} is not the address of one device, or has a wrong port")
    return str(address), int(port)
