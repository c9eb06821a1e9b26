"""Which IP addresses belong to the public internet."""

from __future__ import annotations

import ipaddress

__all__ = ["is_private_host", "is_public"]

# Ranges whose addresses stand for IPv4 addresses: the bits to the right of the IPv4 address.
_EMBEDDING = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated (SIIT)
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)
_NEVER = (
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, unspecified, loopback
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # local NAT64
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("fec0::/10"),  # site-local
    ipaddress.IPv6Network("3fff::/20"),  # documentation
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
)


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet.

    It is not if it is private, shared (CGNAT), loopback, link-local, multicast, reserved or
    unspecified, or if it is an IPv6 address that stands for such an IPv4 address. A text that is
    not an IP address gives False.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        for network, shift in _EMBEDDING:
            if found in network:
                return is_public(str(ipaddress.IPv4Address(int(found) >> shift & 0xFFFF_FFFF)))
    if any(found in network for network in _NEVER):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved)


def is_private_host(host: str) -> bool:
    """Return whether a host is this machine by name, or a literal address that is not public.

    What another name leads to is seen when it is connected to.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_public(host)
