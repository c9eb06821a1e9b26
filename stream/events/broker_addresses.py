"""Check host names and ports of brokers: those of the settings, and those that brokers advertise.

A client connects to a bootstrap address first. The broker then sends the addresses under which it
and the other brokers are to be reached (`advertised.listeners`), and the client uses only those.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence

from configs import readable

__all__ = ["bootstrap_problem", "is_on_this_machine", "login_problem", "unreachable_broker"]

_CONNECT_SECONDS = 1.0
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?"
_ADDRESS = re.compile(rf"(?:{_HOST}|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]):(\d{{1,5}})", re.ASCII)
# Addresses that cannot contain a password: a name with a port, or an IPv6 address.
_HARMLESS = re.compile(r"[^:]*(?::-?\d{0,5})?|[\[0-9A-Fa-f:.]*\]?(?::\d*)?", re.ASCII)


def login_problem(addresses: Sequence[str]) -> str | None:
    """Say that addresses contain a login; None if they do not. No part of them is shown.

    A comma in a password has divided it into two addresses.
    """
    if not any("@" in address or "%40" in address for address in addresses):
        return None
    return (
        "an address with a user name or password before an @ is not host:port; write host:port"
        " alone, and give the login as kafka.sasl_username and kafka.sasl_password"
    )


def bootstrap_problem(address: str) -> str | None:
    """Say what is wrong with a bootstrap address and what to write instead; None if nothing is."""
    scheme, separator, rest = address.partition("://")
    if separator:
        shown = _shown(rest.partition("/")[0])
        return (
            f"'{shown}' is not host:port with the scheme {scheme!r} before it: write {shown},"
            " without a scheme; kafka.security_protocol says whether to encrypt and to log in"
        )
    match = _ADDRESS.fullmatch(address)
    if match is not None and 0 < int(match[1]) < 65536:
        return None
    return (
        f"'{_shown(address)}' is not host:port; write a name or an IPv4 address, or an IPv6 address"
        " in brackets, and a port from 1 to 65535, as in broker:9092 or [2001:db8::1]:9092"
    )


def is_on_this_machine(address: str) -> bool:
    """Return whether a bootstrap address names this machine, without looking up names."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"


def _shown(address: str) -> str:
    """Return an address without what may be a password: what follows a slash, or is not a port."""
    address, slash, _ = readable(address).partition("/")
    if not _HARMLESS.fullmatch(address):
        address = f"{address.partition(':')[0]}:***"
    return f"{address}/***" if slash else address


def unreachable_broker(brokers: Iterable[tuple[str, int]]) -> str | None:
    """Say which of the addresses that brokers advertise cannot be used; None if all can.

    Args:
        brokers: host and port of each broker, as the cluster gave them.
    """
    for host, port in brokers:
        problem = _connection_problem(host, port)
        if problem is not None:
            return (
                f"the broker at the bootstrap address answers, but advertises {host}:{port},"
                f" {problem}; set advertised.listeners of the broker to an address that this"
                " machine can reach"
            )
    return None


def _connection_problem(host: str, port: int) -> str | None:
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return "a name that cannot be resolved"
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        return f"which cannot be reached ({error.strerror or error})"
    return None
